// The editor of regions: tools, the canvas, a list, and the sliders of the selected region. It is a
// view of three textboxes, which are what the server reads: columns, rows and the regions' lines.

var dmm = dmm || {};

(function () {
    "use strict";

    const HUES = [212, 28, 140, 285, 350, 178, 48, 320];
    const HINT =
        "Drag on the picture to draw a rectangle; drag a rectangle to move it, its handles to resize it " +
        "(Shift draws over others). Where regions overlap they share; what none covers has the mix above.";
    const MOST_STEPS = 100; // to undo: a step holds every mask
    const BRUSH_HINT =
        "Paint on the picture where the style shall hold. Escape, or a click in the list, ends painting.";

    class RegionEditor {
        /**
         * @param panel - the element to fill.
         * @param tab - "txt2img" or "img2img".
         * @param textboxes - `regions`, `columns`, `rows`, `feather`, and `mix`, that of the picture.
         */
        constructor(panel, tab, textboxes) {
            this.textboxes = textboxes;
            this.regions = [];
            this.selected = null;
            this.brush = { size: 0.12, erases: false };
            this.names = [];
            this.history = [];
            this.stepGoesOn = false;
            this.shown = null; // the text that is shown
            this.feather = "0";
            this.backdrop = new dmm.Backdrop(tab);
            this.canvas = new dmm.RegionCanvas(this, this.backdrop);
            this.tools = new dmm.RegionTools(this);
            this.hint = dmm.element("p", { className: "dmm-notice" });
            this.list = dmm.element("ul", { className: "dmm-region-list" });
            this.settings = new dmm.RegionSettings(this);
            const side = dmm.element(
                "div",
                { className: "dmm-region-side" },
                this.hint,
                this.list,
                this.settings.element,
            );
            const stage = dmm.element("div", { className: "dmm-region-stage" }, this.canvas.element);
            const body = dmm.element("div", { className: "dmm-region-body" }, stage, side);
            const editor = dmm.element("div", { className: "dmm-region-editor" }, this.tools.element, body);
            editor.addEventListener("keydown", (event) => {
                const undoes = event.key === "z" && (event.ctrlKey || event.metaKey);
                if (!undoes || event.target.matches("input")) return;
                event.preventDefault();
                this.undo();
            });
            panel.replaceChildren(editor);
        }

        /** The names of the checkpoint's styles, as `dmm.Sliders.show`. */
        show(names, notice) {
            this.names = names;
            this.settings.sliders.show(names, notice);
            this.refresh();
        }

        /** Follows the textboxes, and the picture behind. */
        read() {
            const looksNew = this.backdrop.look() || this.feather !== this.textboxes.feather.value;
            this.feather = this.textboxes.feather.value;
            const { regions, columns, rows } = this.textboxes;
            const text = [regions.value, columns.value, rows.value].join("\u0000");
            if (text !== this.shown) {
                this.shown = text;
                this.parse();
            } else if (looksNew) {
                this.refresh();
            }
        }

        parse() {
            const before = this.regions.indexOf(this.selected);
            const known = new Map(this.regions.map(({ png, mask }) => [png, mask]));
            const cells = dmm.cellsOf(this.textboxes.columns.value, this.textboxes.rows.value);
            const lines = dmm.parseRegions(this.textboxes.regions.value);
            const placed = lines.filter(({ rectangle, png, unread }) => rectangle || png || unread);
            const mixes = lines.filter((line) => !placed.includes(line)).map(({ mix }) => mix);
            const tooMany = mixes.splice(cells.length).filter(Boolean);
            const ofCells = cells.map((cell, index) => ({ cell, mix: mixes[index] ?? "" }));
            this.regions = [
                // One cell is the whole picture: shown only where something is said of it.
                ...ofCells.filter(({ mix }) => mix || cells.length > 1),
                ...tooMany.map((mix) => ({ mix: "", unread: mix })),
                ...placed,
            ];
            for (const region of placed.filter(({ png }) => png)) this.readMask(region, known.get(region.png));
            this.select(this.regions[before] ?? null);
        }

        async readMask(region, known) {
            region.mask = known;
            try {
                region.mask ??= await dmm.PaintedMask.read(`data:image/png;base64,${region.png}`);
            } catch {
                return; // it is no picture: the server says so
            }
            region.mask.file = region.png;
            this.refresh();
        }

        /** Writes the regions into their textbox: a step to undo, until `endStep` one with the next if it goes on. */
        commit({ goesOn = false } = {}) {
            const cells = this.regions.filter(({ cell }) => cell);
            while (cells.length && !cells.at(-1).mix) cells.pop();
            const placed = this.regions.filter(({ cell }) => !cell);
            for (const region of placed) if (region.mask) region.png = region.mask.png;
            const isEmpty = ({ mask, png }) => mask && !png; // a mask without paint, as yet
            this.write(dmm.formatRegions([...cells, ...placed.filter((region) => !isEmpty(region))]), goesOn);
        }

        endStep() {
            this.stepGoesOn = false;
        }

        write(text, goesOn) {
            const { regions } = this.textboxes;
            if (text !== regions.value) {
                if (!(goesOn && this.stepGoesOn)) this.remember(regions.value);
                this.stepGoesOn = goesOn;
                this.set(text);
            }
            this.refresh();
        }

        remember(text) {
            this.history.push(text);
            if (this.history.length > MOST_STEPS) this.history.shift();
        }

        set(text) {
            const { regions, columns, rows } = this.textboxes;
            regions.value = text;
            updateInput(regions);
            this.shown = [text, columns.value, rows.value].join("\u0000");
        }

        undo() {
            if (!this.history.length) return;
            this.endStep();
            this.set(this.history.pop());
            this.parse();
        }

        select(region) {
            this.selected = region;
            this.refresh();
        }

        /** Adds a region with a style that no other has yet, and selects it. */
        add(region) {
            const used = [this.textboxes.mix.value, ...this.regions.map(({ mix }) => mix)].join().toLowerCase();
            const style = this.names.find((name) => !used.includes(name.toLowerCase())) ?? this.names[0];
            const added = { mix: style ? `${style}:1` : "", feather: null, ...region };
            this.regions.push(added);
            this.select(added);
            return added;
        }

        remove(region) {
            const index = this.regions.indexOf(region);
            this.regions.splice(index, 1);
            this.select(this.regions[Math.min(index, this.regions.length - 1)] ?? null);
            this.commit();
        }

        /** In pixels of the picture. */
        featherOf(region) {
            return region.feather ?? Number(this.feather);
        }

        numberOf(region) {
            return this.regions.indexOf(region) + 1;
        }

        nameOf(region) {
            return `${this.numberOf(region)} ${region.unread ?? (region.mix || "as the picture")}`;
        }

        refresh() {
            this.regions.forEach((region, index) => (region.colour = `hsl(${HUES[index % HUES.length]} 75% 45%)`));
            this.canvas.element.style.aspectRatio = this.backdrop.aspect;
            this.canvas.element.style.setProperty("--aspect", this.backdrop.aspect);
            this.hint.textContent = this.selected?.mask ? BRUSH_HINT : HINT;
            this.refreshList();
            this.tools.refresh();
            this.settings.refresh();
            this.canvas.draw();
        }

        refreshList() {
            const focused = [...this.list.children].findIndex((item) => item.contains(document.activeElement));
            this.list.replaceChildren(...this.regions.map((region) => this.item(region)));
            this.list.children[focused]?.firstChild.focus();
        }

        item(region) {
            const name = this.nameOf(region);
            const chip = dmm.element("span", { className: "dmm-region-chip" });
            chip.style.background = region.colour;
            const select = dmm.element("button", { type: "button", className: "dmm-region", title: name }, chip, name);
            select.setAttribute("aria-pressed", region === this.selected);
            select.onclick = () => this.select(region === this.selected ? null : region);
            if (region.cell) return dmm.element("li", {}, select);
            const remove = dmm.element("button", { type: "button", className: "dmm-region-remove", title: "Remove" }, "×");
            remove.setAttribute("aria-label", `Remove region ${name}`);
            remove.onclick = () => this.remove(region);
            return dmm.element("li", {}, select, remove);
        }
    }

    Object.assign(dmm, { RegionEditor });
})();
