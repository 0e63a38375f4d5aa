// What nodes with widgets of ours have in common: their own come first, ours after them.

const own = new WeakMap();

export function widgetOf(node, name) {
  return node.widgets.find((widget) => widget.name === name);
}

/** Marks the widgets a node has now as those that stay. */
export function keepOwnWidgets(node) {
  own.set(node, node.widgets.length);
}

export function removeAdded(node) {
  node.widgets.length = own.get(node);
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
