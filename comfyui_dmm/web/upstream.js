// Which file feeds a node's styles, read from the graph before anything runs.

import { app } from "../../scripts/app.js";

// The nodes that read a file: the widget that says which, and the model folders it lists.
const LOADERS = {
  DMM_CheckpointLoader: { widget: "ckpt_name", folders: ["checkpoints"] },
  DMM_AdapterLoader: { widget: "adapter_name", folders: ["loras"] },
  DMM_ControlNetLoader: { widget: "control_net_name", folders: ["controlnet"] },
  DMM_StylesLoader: { widget: "styles_name", folders: ["dmm_styles", "checkpoints"] },
};

const BYPASSED = 4;
const MAX_STEPS = 100; // links may go in circles while a graph is being edited

/** Every node of the workflow, those inside subgraphs included. */
export function allNodes() {
  const { rootGraph } = app.graph;
  return [rootGraph, ...rootGraph.subgraphs.values()].flatMap((graph) => graph.nodes);
}

/**
 * The file behind a node's input.
 * @returns {name, folders}; null while nothing is connected; undefined if only running tells.
 */
export function stylesFile(node, inputName) {
  const slot = node.inputs.findIndex((input) => input.name === inputName);
  if (node.inputs[slot]?.link == null) return null;
  const source = followInput(node, slot);
  return source?.node ? ownFile(source.node) : undefined;
}

/** The file that a node reads itself; undefined if it is no loader, or if only running tells. */
export function ownFile(node) {
  const loader = LOADERS[node.comfyClass];
  if (!loader) return undefined;
  const name = widgetValue(node, loader.widget);
  return name && { name, folders: loader.folders };
}

/** What a widget will say when the graph is queued: its own value, or that of what feeds it. */
function widgetValue(node, widgetName) {
  const slot = node.inputs.findIndex((input) => input.widget?.name === widgetName);
  const fed = node.inputs[slot]?.link != null;
  const widget = fed
    ? followInput(node, slot)?.widget
    : node.widgets.find((candidate) => candidate.name === widgetName);
  return widget?.value;
}

/**
 * Goes up the link at an input, through reroutes, bypassed nodes and the borders of subgraphs.
 * @returns {node} that really gives the value, or the {widget} that does, or null.
 */
function followInput(node, slot, steps = 0) {
  const input = node.inputs[slot];
  if (!input || steps > MAX_STEPS) return null;
  if (input.link == null) {
    const widget = node.isSubgraphNode() && node.getWidgetFromSlot(input);
    return widget ? { widget } : null;
  }
  return followLink(node.graph, node.graph.getLink(input.link), input.type, steps);
}

function followLink(graph, link, type, steps) {
  if (!link) return null;
  if (link.originIsIoNode) {
    const holder = holderOf(graph);
    return holder ? followInput(holder, link.origin_slot, steps + 1) : null;
  }
  const node = graph.getNodeById(link.origin_id);
  return node && followOutput(node, link.origin_slot, type, steps + 1);
}

function followOutput(node, slot, type, steps) {
  if (node.mode === BYPASSED) {
    const through = node.inputs.findIndex((input) => input.type === type);
    return followInput(node, through, steps);
  }
  if (node.isSubgraphNode()) {
    const link = node.subgraph.getLink(node.subgraph.outputs[slot]?.linkIds[0]);
    return followLink(node.subgraph, link, type, steps);
  }
  if (node.isVirtualNode && node.inputs.length) {
    return followLink(node.graph, node.getInputLink(slot), type, steps);
  }
  if (node.type === "PrimitiveNode") return { widget: node.widgets?.[0] };
  return { node };
}

/** The node that stands for a subgraph; the first, where the workflow uses it several times. */
function holderOf(subgraph) {
  return allNodes().find((node) => node.isSubgraphNode() && node.subgraph === subgraph);
}
