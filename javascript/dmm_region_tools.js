// The buttons above the canvas: new regions, undo, and the brush while a painted mask is selected.

var dmm = dmm || {};

(function () {
    "use strict";

    const NEW_RECTANGLE = { x: 0.3, y: 0.3, width: 0.4, height: 0.4 };

    class RegionTools {
        constructor(editor) {
            this.editor = editor;
            this.undo = button("Undo", "Take back the last change (Ctrl+Z)", () => editor.undo());
            this.brush = button("Brush", "Paint where the style shall hold", () => this.choose(false));
            this.eraser = button("Eraser", "Take paint away", () => this.choose(true));
            this.size = dmm.element("input", { type: "range", min: 1, max: 60, value: 100 * editor.brush.size });
            this.size.setAttribute("aria-label", "Brush size, in percent of the picture");
            this.size.oninput = () => {
                editor.brush.size = Number(this.size.value) / 100;
                editor.canvas.draw();
            };
            this.file = dmm.element("input", { type: "file", accept: "image/*", hidden: true });
            this.file.onchange = () => this.load(this.file.files[0]);
            this.painting = dmm.element(
                "div",
                { className: "dmm-region-tools" },
                this.brush,
                this.eraser,
                dmm.element("label", { className: "dmm-region-brush" }, "Size", this.size),
                button("Clear mask", "Take all paint of this mask away", () => this.clear()),
                button("Load mask…", "A picture, white where the style shall hold", () => this.file.click()),
                this.file,
            );
            this.element = dmm.element(
                "div",
                { className: "dmm-region-tools" },
                button("Add rectangle", "A region with straight sides", () => this.addRectangle()),
                button("Add painted mask", "A region of any shape, painted with a brush", () => this.addMask()),
                this.undo,
                this.painting,
            );
        }

        addRectangle() {
            this.editor.add({ rectangle: { ...NEW_RECTANGLE } });
            this.editor.commit();
        }

        addMask() {
            this.choose(false);
            this.editor.add({ mask: new dmm.PaintedMask(this.editor.backdrop.aspect) });
        }

        choose(erases) {
            this.editor.brush.erases = erases;
            this.editor.refresh();
        }

        clear() {
            this.editor.selected.mask.clear();
            this.editor.commit();
        }

        async load(file) {
            const region = this.editor.selected;
            const source = URL.createObjectURL(file);
            try {
                region.mask = await dmm.PaintedMask.read(source);
                this.editor.commit();
            } catch {
                this.editor.hint.textContent = `${file.name} is no picture. Choose a PNG, JPEG or WebP file.`;
            }
            URL.revokeObjectURL(source);
            this.file.value = ""; // so that the same file can be chosen again
        }

        refresh() {
            const { brush, selected, history } = this.editor;
            this.undo.disabled = !history.length;
            this.painting.hidden = !selected?.mask;
            this.brush.setAttribute("aria-pressed", !brush.erases);
            this.eraser.setAttribute("aria-pressed", brush.erases);
        }
    }

    function button(label, title, onclick) {
        return dmm.element("button", { type: "button", className: "dmm-button", title, onclick }, label);
    }

    Object.assign(dmm, { RegionTools });
})();
