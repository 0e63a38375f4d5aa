// Mixes in the browser: their text, "ink:0.7, anime:0.3", and sliders that are a view of it.
//
// The text is what the server reads. So the sliders are alike under every version of gradio, and
// follow whatever writes it: the keyboard, a pasted infotext, another extension.

var dmm = dmm || {};

(function () {
    "use strict";

    function parseMix(text) {
        const mix = new Map();
        for (const part of text.split(",")) {
            const colon = part.lastIndexOf(":");
            const name = (colon < 0 ? part : part.slice(0, colon)).trim();
            const weight = colon < 0 ? 1 : Number(part.slice(colon + 1));
            if (name && Number.isFinite(weight)) mix.set(name, weight);
        }
        return mix;
    }

    function formatMix(mix) {
        const used = [...mix].filter(([, weight]) => weight !== 0);
        return used.map(([name, weight]) => `${name}:${weight}`).join(", ");
    }

    function element(tag, properties, ...children) {
        const made = Object.assign(document.createElement(tag), properties);
        made.append(...children);
        return made;
    }

    class Sliders {
        constructor(panel, textbox) {
            this.textbox = textbox;
            this.names = [];
            this.rows = new Map();
            this.shown = null; // the text that the sliders show
            this.notice = element("p", { className: "dmm-notice" });
            this.unknown = element("p", { className: "dmm-notice dmm-warning" });
            this.list = element("div", { className: "dmm-list" });
            this.buttons = element(
                "div",
                { className: "dmm-buttons" },
                this.button("Equal", "Every style alike", () => 1),
                this.button("Random", "A mix by chance", () => Math.round(Math.random() * 100) / 100),
                this.button("Clear", "No style", () => 0),
            );
            panel.replaceChildren(this.notice, this.unknown, this.list, this.buttons);
            this.show([], "");
        }

        button(label, title, weight) {
            const onclick = () => this.write(new Map(this.names.map((name) => [name, weight()])));
            return element("button", { type: "button", className: "dmm-button", title, onclick }, label);
        }

        /** Draws a slider for each name, or the notice alone. */
        show(names, notice) {
            this.names = names;
            this.notice.textContent = notice;
            this.notice.hidden = !notice;
            this.buttons.hidden = !names.length;
            this.rows = new Map(names.map((name) => [name, this.row(name)]));
            this.list.replaceChildren(...[...this.rows.values()].map((row) => row.element));
            this.shown = null;
            this.read();
        }

        row(name) {
            const range = element("input", { type: "range", min: 0, max: 1, step: 0.01 });
            const number = element("input", { type: "number", step: 0.01 });
            for (const input of [range, number]) {
                input.setAttribute("aria-label", `Weight of ${name}`);
                input.addEventListener("input", () => {
                    const mix = parseMix(this.textbox.value);
                    this.write(mix.set(this.spelled(mix, name), Number(input.value) || 0));
                });
            }
            const label = element("span", { className: "dmm-name", title: name }, name);
            return { range, number, element: element("label", { className: "dmm-row" }, label, number, range) };
        }

        /** The name of a style as the mix spells it, whose case does not matter. */
        spelled(mix, name) {
            const same = (other) => other.toLowerCase() === name.toLowerCase();
            return mix.has(name) ? name : ([...mix.keys()].find(same) ?? name);
        }

        write(mix) {
            this.textbox.value = formatMix(mix);
            updateInput(this.textbox);
            this.read();
        }

        /** Moves the sliders to where the textbox says. */
        read() {
            if (this.textbox.value === this.shown) return;
            this.shown = this.textbox.value;
            const mix = parseMix(this.shown);
            for (const [name, { range, number }] of this.rows) {
                const weight = mix.get(this.spelled(mix, name)) ?? 0;
                range.max = Math.max(1, weight);
                range.min = Math.min(0, weight);
                range.value = weight;
                if (number !== document.activeElement) number.value = weight; // not while it is typed
            }
            this.warn(mix);
        }

        /** Says where a mix, such as a preset's, was made for other styles. */
        warn(mix) {
            const known = this.names.map((name) => name.toLowerCase());
            const unknown = [...mix.keys()].filter((name) => !known.includes(name.toLowerCase()));
            this.unknown.hidden = !unknown.length || !known.length;
            this.unknown.textContent = `This mix was made for other styles: this checkpoint has no ${unknown.join(", no ")}.`;
        }
    }

    Object.assign(dmm, { element, parseMix, formatMix, Sliders });
})();
