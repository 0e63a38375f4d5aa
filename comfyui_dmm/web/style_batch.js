// DMM Style Batch: the names that its lines may hold stand below them.

import { addNote } from "./note.js";
import { text } from "./texts.js";
import { removeAdded } from "./widgets.js";

export function showList(node, { styles, problem }) {
  removeAdded(node);
  addNote(node, () => problem ?? text("inFile", { names: styles.join(", ") }));
  node.expandToFitContent(); // never smaller: the user may have enlarged the text field
  node.setDirtyCanvas(true, true);
}
