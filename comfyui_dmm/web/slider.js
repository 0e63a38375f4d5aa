// A slider with its name at the left and what it amounts to at the right.

import { markAdded } from "./widgets.js";

const MARGIN = 15; // litegraph's own, from the node's edge to a widget
const PADDING = 12;

/**
 * Adds a slider that keeps no value of its own and is not saved: it shows and sets another's.
 * @param slider.label shown as it is
 * @param slider.get, slider.set the weight it stands for
 * @param slider.range () => [min, max]
 * @param slider.amount () => text at the right
 */
export function addSlider(node, { label, get, set, range, amount }) {
  const options = {
    get min() {
      return range()[0];
    },
    get max() {
      return range()[1];
    },
    step2: 0.01,
    precision: 2,
  };
  // The prefix keeps a style called like one of the node's inputs apart from it.
  const widget = node.addWidget("slider", `style ${label}`, get(), () => {}, options);
  widget.label = label;
  Object.defineProperty(widget, "value", { get, set: (value) => set(roundToStep(value)) });
  widget.drawWidget = function (context, { width, showText = true }) {
    const [min, max] = range();
    const place = (value) => Math.min(Math.max((value - min) / (max - min), 0), 1);
    drawSlider(context, this, width, [place(0), place(get())], showText && [label, amount()]);
  };
  return markAdded(widget);
}

function roundToStep(value) {
  return Math.round(value * 100) / 100;
}

/** Draws the bar from the place of 0 to that of the value, both as shares of the length. */
function drawSlider(context, widget, width, [zero, value], texts) {
  const { y, height } = widget;
  const inner = width - 2 * MARGIN;
  context.save();
  context.beginPath();
  context.roundRect(MARGIN, y, inner, height, texts ? height / 2 : 0);
  context.fillStyle = widget.background_color;
  context.fill();
  context.save();
  context.clip();
  context.fillStyle = "#4f7cac99"; // half transparent, so text is legible on it in any theme
  context.fillRect(MARGIN + inner * zero, y, inner * (value - zero), height);
  context.restore();
  if (texts) {
    context.strokeStyle = widget.outline_color;
    context.stroke();
    drawTexts(context, widget, inner, texts);
  }
  context.restore();
}

function drawTexts(context, widget, inner, [label, amount]) {
  const baseline = widget.y + widget.height * 0.7;
  context.fillStyle = widget.text_color;
  context.textAlign = "right";
  context.fillText(amount, MARGIN + inner - PADDING, baseline);
  context.textAlign = "left";
  const room = inner - 3 * PADDING - context.measureText(amount).width;
  context.fillText(shortened(context, label, room), MARGIN + PADDING, baseline);
}

function shortened(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  const letters = [...text];
  const written = () => `${letters.join("")}…`;
  while (letters.length && context.measureText(written()).width > room) letters.pop();
  return written();
}
