// The pack's front end: nodes that know a file's styles before anything has run.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { forgetStyles, stylesIn } from "./file_styles.js";
import { showList } from "./style_batch.js";
import { setUpMix, showSliders } from "./style_mix.js";
import { showNames } from "./style_picker.js";
import { loadTexts, text } from "./texts.js";
import { allNodes, ownFile, stylesFile } from "./upstream.js";
import { calling } from "./widgets.js";

const NODES = {
  DMM_StyleMix: { setUp: setUpMix, show: showSliders },
  DMM_StyleBatch: { show: showList },
  DMM_Style: { show: (node, view) => showNames(node, "style", view) },
  DMM_ControlNetLoader: {
    show: (node, view) => showNames(node, "control", view),
    file: ownFile,
  },
};

const PATIENCE = 3000; // ms, before a server that was away is asked again

/** What each node shows now, so that a change elsewhere in the graph redraws nothing. */
const shown = new WeakMap();

app.registerExtension({
  name: "DMM",

  async init() {
    // Tells of every change the user made: of links and files, in subgraphs and by undoing too.
    api.addEventListener("graphChanged", refreshAll);
    await loadTexts();
  },

  nodeCreated(node) {
    const kind = NODES[node.comfyClass];
    if (!kind) return;
    kind.setUp?.(node);
    node.onConnectionsChange = calling(node.onConnectionsChange, () => refresh(node));
  },

  afterConfigureGraph: refreshAll,

  refreshComboInNodes() {
    forgetStyles();
    for (const node of allNodes()) shown.delete(node);
    refreshAll();
  },
});

function refreshAll() {
  for (const node of allNodes()) if (NODES[node.comfyClass]) refresh(node);
}

async function refresh(node) {
  if (!node.graph || app.configuringGraph) return;
  const { file: fileOf = stylesOf } = NODES[node.comfyClass];
  const file = fileOf(node);
  const fed = node.inputs.map((input) => input.link != null);
  const state = JSON.stringify([file ?? String(file), fed]);
  if (shown.get(node) === state) return;
  shown.set(node, state);
  const view = await viewOf(file);
  if (shown.get(node) !== state) return;
  NODES[node.comfyClass].show(node, view);
  if (view.away) setTimeout(() => refreshIf(node, state), PATIENCE);
}

/** Asks again, unless the node shows something else by now. */
function refreshIf(node, state) {
  if (shown.get(node) !== state) return;
  shown.delete(node);
  refresh(node);
}

const stylesOf = (node) => stylesFile(node, "styles");

async function viewOf(file) {
  if (file === null) return { problem: text("connectLoader") };
  if (file === undefined) return { problem: text("unknownFile") };
  return stylesIn(file);
}
