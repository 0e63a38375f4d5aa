// The words on our widgets, in the user's language: locales/<language>/main.json, under "dmm".

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

let words = {};

export async function loadTexts() {
  const languages = await (await api.fetchApi("/i18n")).json();
  const chosen = app.extensionManager.setting.get("Comfy.Locale");
  words = { ...languages.en?.dmm, ...languages[chosen]?.dmm };
}

/** The text called `key`, with its {placeholders} filled in. */
export function text(key, values = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
