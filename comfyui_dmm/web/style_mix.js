// DMM Style Mix: a slider for each style of the file, all of them writing the node's `mix`.

import { formatMix, strangers, weightsOver } from "./mix.js";
import { addNote } from "./note.js";
import { addPresets } from "./presets.js";
import { addSlider } from "./slider.js";
import { text } from "./texts.js";
import { calling, fitHeight, removeAdded, widgetOf } from "./widgets.js";

const FREE_RANGE = [-1, 2];
const NORMALISED_RANGE = [0, 1];
const MIN_WIDTH = 300;

export function setUpMix(node) {
  addPresets(node);
  const mix = widgetOf(node, "mix");
  mix.callback = calling(mix.callback, () => fitHeight(node));
}

/** Replaces the sliders by those of another file, or by a note that tells why there are none. */
export function showSliders(node, { styles, sampling, problem }) {
  removeAdded(node);
  if (problem) addNote(node, () => problem);
  else addSliders(node, styles);
  if (sampling) addNote(node, () => text("sampling", { sampling }));
  node.setSize([Math.max(node.size[0], MIN_WIDTH), node.size[1]]);
  fitHeight(node);
}

function addSliders(node, styles) {
  const [mix, normalise] = [widgetOf(node, "mix"), widgetOf(node, "normalise")];
  if (!mix.value) mix.value = formatMix(new Map([[styles[0], 1]]));
  const weights = () => weightsOver(styles, mix.value);
  const fed = node.inputs.some((input) => input.widget?.name === "mix" && input.link != null);
  for (const label of styles) {
    const slider = addSlider(node, {
      label,
      get: () => weights().get(label),
      set(weight) {
        mix.value = formatMix(weights().set(label, weight));
        fitHeight(node);
      },
      range: () => (normalise.value ? NORMALISED_RANGE : FREE_RANGE),
      amount: () => amountOf(weights(), label, normalise.value),
    });
    slider.disabled = fed; // the mix then comes from another node
  }
  addNote(node, () => {
    const names = strangers(styles, mix.value).join(", ");
    return names && text("notInFile", { names });
  });
}

/** What the style gets in the end: its share of the whole, or the weight itself. */
function amountOf(weights, label, normalised) {
  const weight = weights.get(label);
  if (!normalised) return weight.toFixed(2);
  const total = [...weights.values()].reduce((sum, other) => sum + other, 0);
  return total > 0 ? `${Math.round((100 * weight) / total)} %` : "–";
}
