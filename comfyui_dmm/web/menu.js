// Menus of names that come from strangers' files: shown as text, never as HTML.

/**
 * Opens a menu where the event happened.
 * @param entries {label, run?, disabled?, entries?} each; null draws a line.
 */
export function openMenu(event, entries) {
  new LiteGraph.ContextMenu(entries.map(toItem), { event, className: "dark" });
}

function toItem(entry) {
  if (entry === null) return null;
  return {
    content: withoutTags(entry.label),
    disabled: entry.disabled,
    callback: entry.run,
    has_submenu: Boolean(entry.entries),
    submenu: entry.entries && { options: entry.entries.map(toItem) },
  };
}

/** Older ComfyUIs take a label for HTML, newer ones for text: without "<" both show the same. */
const withoutTags = (label) => label.replaceAll("<", "‹");
