// A few lines of plain text in a node: what is missing, and what to do.

import { markAdded } from "./widgets.js";

const MARGIN = 20;
const LINE_HEIGHT = 16;
const GAP = 4; // litegraph's own, below each widget, even a hidden one

/** @param text () => what to say now; while that is empty the note takes no room. */
export function addNote(node, text) {
  const lines = () => linesOf(text(), node.size[0] - 2 * MARGIN);
  const note = {
    type: "dmm_note",
    name: "note",
    y: 0,
    options: {},
    get hidden() {
      return !text();
    },
    computeSize: () => [0, text() ? LINE_HEIGHT * lines().length + GAP : -GAP],
    draw(context, _node, _width, y, _height, lowQuality) {
      if (lowQuality) return;
      context.save();
      context.fillStyle = LiteGraph.WIDGET_SECONDARY_TEXT_COLOR;
      context.textAlign = "left";
      lines().forEach((line, row) => {
        context.fillText(line, MARGIN, y + LINE_HEIGHT * (row + 0.8));
      });
      context.restore();
    },
  };
  return markAdded(node.addCustomWidget(note));
}

const ruler = document.createElement("canvas").getContext("2d");

function linesOf(text, room) {
  ruler.font = `${LiteGraph.NODE_SUBTEXT_SIZE}px ${LiteGraph.NODE_FONT}`;
  const lines = [""];
  for (const piece of breakable(text)) {
    const longer = lines.at(-1) + piece;
    if (lines.at(-1) && ruler.measureText(longer.trimEnd()).width > room) lines.push(piece);
    else lines[lines.length - 1] = longer;
  }
  return lines;
}

/** The pieces a line may end after: words, and each letter of Chinese. */
function breakable(text) {
  return text.match(/(?:[\u3000-\u9fff\uff00-\uffef]|[^\s\u3000-\u9fff\uff00-\uffef]+)\s*/g) ?? [];
}
