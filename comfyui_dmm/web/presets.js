// Presets: mixes with a name, kept by the server for every workflow.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { openMenu } from "./menu.js";
import { text } from "./texts.js";
import { fitHeight } from "./widgets.js";

const FIELDS = ["mix", "normalise", "strength", "mixing"];

/** Adds the button that opens the presets' menu. */
export function addPresets(node) {
  const open = async (_value, _canvas, _node, _position, event) => {
    const presets = await request("GET");
    if (presets) openMenu(event, menuOf(node, presets));
  };
  const options = { serialize: false, canvasOnly: true };
  const button = node.addWidget("button", "presets", null, open, options);
  button.label = text("presets");
  button.serialize = false;
}

function menuOf(node, presets) {
  const names = Object.keys(presets).sort((a, b) => a.localeCompare(b));
  return [
    ...names.map((name) => ({ label: name, run: () => recall(node, presets[name]) })),
    ...(names.length ? [null] : []),
    { label: text("savePreset"), run: () => void save(node, presets) },
    {
      label: text("deletePreset"),
      disabled: !names.length,
      entries: names.map((name) => ({ label: name, run: () => void remove(name) })),
    },
  ];
}

function recall(node, preset) {
  for (const widget of node.widgets) {
    if (FIELDS.includes(widget.name)) widget.value = preset[widget.name];
  }
  fitHeight(node);
}

async function save(node, presets) {
  const said = await app.extensionManager.dialog.prompt({
    title: text("savePreset"),
    message: text("presetName"),
  });
  const name = said?.trim();
  if (!name) return;
  if (Object.hasOwn(presets, name) && !(await confirm(text("replacePreset", { name })))) return;
  const fields = node.widgets.filter((widget) => FIELDS.includes(widget.name));
  const preset = Object.fromEntries(fields.map((widget) => [widget.name, widget.value]));
  await request("PUT", { body: JSON.stringify({ name, ...preset }) });
}

async function remove(name) {
  if (!(await confirm(text("reallyDelete", { name })))) return;
  await request("DELETE", {}, `?${new URLSearchParams({ name })}`);
}

function confirm(message) {
  return app.extensionManager.dialog.confirm({ title: text("presets"), message });
}

/** All presets as the server has them afterwards; undefined, and a notice, where it refused. */
async function request(method, options = {}, query = "") {
  const response = await api.fetchApi(`/dmm/presets${query}`, { method, ...options });
  const answer = await response.json();
  if (response.ok) return answer;
  app.extensionManager.toast.add({
    severity: "error",
    summary: text("presets"),
    detail: answer.error,
  });
}
