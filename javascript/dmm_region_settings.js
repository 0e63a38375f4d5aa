// The settings of the selected region: its mix, its place in numbers, its feather.

var dmm = dmm || {};

(function () {
    "use strict";

    const MOST_FEATHER = 1024; // as on the server
    const SIDES = { x: "Left", y: "Top", width: "Width", height: "Height" };

    class RegionSettings {
        constructor(editor) {
            this.editor = editor;
            this.mix = dmm.element("input", { type: "text", placeholder: "as the picture" });
            this.mix.addEventListener("input", () => this.change((region) => (region.mix = this.mix.value.trim())));
            const sliders = dmm.element("div", { className: "dmm-sliders" });
            this.sliders = new dmm.Sliders(sliders, this.mix);
            this.sides = Object.keys(SIDES).map((side) => this.sideInput(side));
            this.place = dmm.element(
                "div",
                { className: "dmm-region-place" },
                ...this.sides.map(({ side, input }) => field(`${SIDES[side]} %`, input)),
            );
            this.feather = dmm.element("input", { type: "number", min: 0, max: MOST_FEATHER, step: 1, placeholder: "as below" });
            this.feather.addEventListener("input", () => this.changeFeather());
            this.featherField = field("Feather, in pixels", this.feather);
            this.element = dmm.element(
                "div",
                { className: "dmm-region-settings" },
                field("Mix of the region", this.mix),
                sliders,
                this.place,
                this.featherField,
            );
            // What is dragged or typed is written as it goes, and is one step to undo once it is done;
            // a button, which knows no "change", is done with its click.
            for (const done of ["change", "click"]) this.element.addEventListener(done, () => editor.endStep());
        }

        sideInput(side) {
            const input = dmm.element("input", { type: "number", min: 0, max: 100, step: 1 });
            input.addEventListener("change", () => this.change(({ rectangle }) => this.setSide(rectangle, side, input)));
            return { side, input };
        }

        /** Sets a side, and keeps the rectangle within the picture. */
        setSide(rectangle, side, input) {
            const [start, length] = side === "x" || side === "width" ? ["x", "width"] : ["y", "height"];
            const value = Math.min(Math.max(Number(input.value) / 100, 0), 1);
            if (side === start) rectangle[start] = Math.min(value, 1 - rectangle[length]);
            else rectangle[length] = Math.min(Math.max(value, 0.01), 1 - rectangle[start]);
        }

        changeFeather() {
            const pixels = Math.min(Math.max(Math.round(Number(this.feather.value)), 0), MOST_FEATHER);
            this.change((region) => (region.feather = this.feather.value === "" ? null : pixels));
        }

        change(set) {
            set(this.editor.selected);
            this.editor.commit({ goesOn: true });
        }

        refresh() {
            const { selected } = this.editor;
            this.element.hidden = !selected || Boolean(selected.unread);
            if (this.element.hidden) return;
            show(this.mix, selected.mix);
            this.sliders.read();
            this.place.hidden = !selected.rectangle;
            if (selected.rectangle) {
                for (const { side, input } of this.sides) show(input, Math.round(1000 * selected.rectangle[side]) / 10);
            }
            this.featherField.hidden = Boolean(selected.cell);
            show(this.feather, selected.feather ?? "");
        }
    }

    /** Shows a value, but not while another is typed. */
    function show(input, value) {
        if (input !== document.activeElement) input.value = value;
    }

    function field(label, input) {
        return dmm.element("label", { className: "dmm-region-field" }, label, input);
    }

    Object.assign(dmm, { RegionSettings });
})();
