// What our nodes have in common: widgets of the node's own, and those we add for a file.

const added = new WeakSet();

export function widgetOf(node, name) {
  return node.widgets.find((widget) => widget.name === name);
}

/** Marks a widget as one that goes when the file changes. It is neither saved nor queued. */
export function markAdded(widget) {
  widget.serialize = false;
  widget.options.serialize = false;
  added.add(widget);
  return widget;
}

export function removeAdded(node) {
  for (const widget of node.widgets.filter((candidate) => added.has(candidate))) {
    node.widgets.splice(node.widgets.indexOf(widget), 1);
  }
}

/** Makes a node as high as its widgets need; its width is the user's. */
export function fitHeight(node) {
  const height = node.computeSize()[1];
  if (node.size[1] !== height) node.setSize([node.size[0], height]);
  node.setDirtyCanvas(true, true);
}

/** A callback that does what `first` does, then `then`. */
export function calling(first, then) {
  return function (...args) {
    const answer = first?.apply(this, args);
    then();
    return answer;
  };
}
