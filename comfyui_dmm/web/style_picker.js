// DMM Style and Load DMM ControlNet: a name is chosen from those in the file.

import { openMenu } from "./menu.js";
import { findStyle } from "./mix.js";
import { addNote } from "./note.js";
import { text } from "./texts.js";
import { fitHeight, removeAdded } from "./widgets.js";

const ARROW = 40; // litegraph steps through a combo's values this near to its ends

/** Offers the names of another file; without them the field takes any text. */
export function showNames(node, name, { styles, problem }) {
  removeAdded(node);
  const index = node.widgets.findIndex((widget) => widget.name === name);
  const { value, label, tooltip } = node.widgets[index];
  const field = problem
    ? addText(node, name, value)
    : addCombo(node, name, value || styles[0], styles);
  Object.assign(field, { label, tooltip });
  node.widgets.splice(node.widgets.indexOf(field), 1);
  node.widgets[index] = field; // in its place: values are saved by their order
  addNote(node, () => problem ?? (isStranger(styles, field.value) ? notInFile(field.value) : ""));
  fitHeight(node);
}

const isStranger = (styles, name) => findStyle(styles, name) === undefined;
const notInFile = (names) => text("notInFile", { names });

function addText(node, name, value) {
  return node.addWidget("text", name, value, () => {}, {});
}

function addCombo(node, name, value, styles) {
  const combo = node.addWidget("combo", name, value, () => fitHeight(node), { values: styles });
  const onClick = combo.onClick;
  combo.onClick = function (options) {
    const x = options.e.canvasX - node.pos[0];
    if (x < ARROW || x > node.size[0] - ARROW) return onClick.call(this, options);
    // litegraph's own menu would read the names as HTML.
    const choose = (label) => void this.setValue(label, options);
    openMenu(
      options.e,
      styles.map((label) => ({ label, run: () => choose(label) })),
    );
  };
  return combo;
}
