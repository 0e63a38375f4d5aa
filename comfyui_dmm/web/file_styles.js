// The style names in a file, asked from the server once.

import { api } from "../../scripts/api.js";

const answers = new Map();

/**
 * @param file its name, and the model folders it may lie in, first come first served.
 * @returns a promise of {styles}, of {sampling} where the file was made for few steps, and of
 *   {problem} where there are no styles: why, in words. With {away} it is the server that gave
 *   none, and may do so soon.
 */
export function stylesIn(file) {
  const query = new URLSearchParams([
    ["name", file.name],
    ...file.folders.map((folder) => ["folder", folder]),
  ]).toString();
  if (!answers.has(query)) answers.set(query, ask(query));
  return answers.get(query);
}

/** Forget the answers: files may have changed. */
export function forgetStyles() {
  answers.clear();
}

async function ask(query) {
  try {
    const answer = await api.fetchApi(`/dmm/styles?${query}`);
    const { styles, sampling, problem, error } = await answer.json();
    return { styles, sampling, problem: problem ?? error };
  } catch (error) {
    answers.delete(query);
    return { problem: String(error), away: true };
  }
}
