// Mixes as text, "ink:0.7, anime:0.3": the spelling of dmm/mixes.py, which has the last word.

/** Weight by style name; what is no mix is left out, and the server tells what is wrong. */
export function parseMix(text) {
  const mix = new Map();
  for (const part of text.split(",")) {
    const colon = part.lastIndexOf(":");
    const name = (colon < 0 ? part : part.slice(0, colon)).trim();
    const weight = colon < 0 ? 1 : Number(part.slice(colon + 1));
    if (name && Number.isFinite(weight)) mix.set(name, weight);
  }
  return mix;
}

/** The text of a mix without its zeros; one zero stays where nothing else does. */
export function formatMix(mix) {
  const entries = [...mix];
  const heard = entries.filter(([, weight]) => weight !== 0);
  const written = heard.length ? heard : entries.slice(0, 1);
  return written.map(([name, weight]) => `${name}:${weight}`).join(", ");
}

/** The file's own spelling of a name: exact first, then without regard to case; or undefined. */
export function findStyle(styles, name) {
  if (styles.includes(name)) return name;
  const alike = styles.filter((style) => style.toLowerCase() === name.toLowerCase());
  return alike.length === 1 ? alike[0] : undefined;
}

/** The weights of a mix over all styles of a file, in the file's order. */
export function weightsOver(styles, text) {
  const weights = new Map(styles.map((style) => [style, 0]));
  for (const [name, weight] of parseMix(text)) {
    const style = findStyle(styles, name);
    if (style !== undefined) weights.set(style, weight);
  }
  return weights;
}

/** The names in a mix that the file does not have. */
export function strangers(styles, text) {
  return [...parseMix(text).keys()].filter((name) => findStyle(styles, name) === undefined);
}
