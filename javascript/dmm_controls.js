// ControlNet's units: where the model is a merged ControlNet, a choice of the control to follow.
//
// It stands below the model, in AUTOMATIC1111's extension as in Forge. What is chosen goes to the
// server in one textbox of ours, a line a unit.

(function () {
    "use strict";

    const NAMED = "="; // before a control's name among the values of the choice
    const AUTOMATIC = "automatic", MIX = "mix";
    const NOT_TOLD = "The preprocessor does not tell which control to follow, so it is the average of them. Choose one.";

    const units = [];

    /** The line of one unit in the textbox of all. */
    class Line {
        constructor(textbox, number) {
            this.textbox = textbox;
            this.number = number;
        }

        get value() {
            return this.textbox.value.split("\n")[this.number] ?? "";
        }

        set value(text) {
            if (text === this.value) return;
            const lines = this.textbox.value.split("\n");
            while (lines.length < this.number) lines.push("");
            lines[this.number] = text;
            this.textbox.value = lines.join("\n").trimEnd();
            updateInput(this.textbox);
        }
    }

    class Unit {
        /** @param {(item: string) => Element} find a part of the unit by the end of its id */
        constructor(find, line) {
            this.find = find;
            this.line = line;
            this.asked = null;
            this.names = [];
            this.told = { by_preprocessor: "", by_kind: "" };
            this.automatic = true;
            this.written = "";
            this.draw();
        }

        draw() {
            const { element, Sliders } = dmm;
            this.label = element("span");
            this.choice = element("select", { onchange: () => this.choose(this.choice.value) });
            this.notice = element("p", { className: "dmm-notice dmm-warning" });
            this.mix = element("input", { oninput: () => this.write(this.mix.value) });
            this.mixer = element("div");
            this.sliders = new Sliders(this.mixer, this.mix);
            const field = element("label", { className: "dmm-field" }, this.label, this.choice);
            this.panel = element("div", { className: "dmm-control", hidden: true }, field, this.notice, this.mixer);
            this.find("model_dropdown").closest(".controlnet_preprocessor_model").after(this.panel);
        }

        /** Asks what the model holds, once it, the preprocessor or the kind of control was changed. */
        async follow() {
            const value = (item) => this.find(item)?.querySelector("input")?.value ?? "";
            const kind = this.find("type_filter_radio")?.querySelector("input:checked")?.value ?? "";
            const said = { model: value("model_dropdown"), preprocessor: value("preprocessor_dropdown"), kind };
            const asked = new URLSearchParams(said).toString();
            if (asked === this.asked) return;
            this.asked = asked;
            const none = !said.model || said.model === "None";
            // Nothing is shown either where the host is away, or does not know the model.
            const told = none ? null : await dmm.ask(`controls?${asked}`).catch(() => this.askAgain(asked));
            if (asked === this.asked) this.show(told);
        }

        /** Forgets after a pause what was asked in vain; there is nothing to show until then. */
        askAgain(asked) {
            setTimeout(() => asked === this.asked && (this.asked = null), dmm.ASK_AGAIN_AFTER);
            return null;
        }

        show(told) {
            this.told = told ?? { by_preprocessor: "", by_kind: "" };
            this.names = told?.controls ?? [];
            this.panel.hidden = !this.names.length;
            this.label.textContent = `Control of ${told?.model}`;
            this.sliders.show(this.names, "");
            this.written = null;
            this.read();
        }

        choose(value) {
            this.mixing = value === MIX;
            if (this.mixing) this.write(dmm.formatMix(new Map([[this.tells || this.names[0], 1]])));
            else this.write(value === AUTOMATIC ? "" : value.slice(NAMED.length));
        }

        get tells() {
            return this.told.by_preprocessor || this.told.by_kind;
        }

        write(text) {
            this.automatic = !text;
            this.line.value = text;
            this.update();
        }

        /** Follows the textbox, which a pasted infotext sets. */
        read() {
            const text = this.line.value;
            if (text === this.written) return;
            // What the kind of control told stands there too.
            this.automatic = !text || (this.automatic && text === this.suggested);
            this.mixing = dmm.parseMix(text).size > 1;
            this.update();
        }

        update() {
            // The server knows the preprocessor, but nobody tells it the kind that was chosen.
            if (this.automatic && this.names.length) {
                this.suggested = this.told.by_preprocessor ? "" : this.told.by_kind;
                this.line.value = this.suggested;
            }
            this.written = this.line.value;
            const mix = dmm.parseMix(this.written);
            const name = mix.size === 1 ? this.spelled([...mix.keys()][0]) : "";
            this.offer(name);
            this.choice.value = this.automatic ? AUTOMATIC : this.mixing ? MIX : NAMED + name;
            this.mixer.hidden = this.choice.value !== MIX;
            this.mix.value = this.written;
            this.sliders.read();
            this.notice.textContent = this.warning(name);
            this.notice.hidden = !this.notice.textContent;
        }

        /** The name of a control as the file spells it, where it has it. */
        spelled(name) {
            return this.sliders.spelled(new Map(this.names.map((one) => [one, 1])), name);
        }

        offer(name) {
            const option = (value, text) => dmm.element("option", { value }, text);
            const unknown = name && !this.names.includes(name) ? [name] : [];
            this.choice.replaceChildren(
                option(AUTOMATIC, this.tells ? `Automatic: ${this.tells}` : "Automatic"),
                ...[...this.names, ...unknown].map((one) => option(NAMED + one, one)),
                option(MIX, "A mix …"),
            );
        }

        warning(name) {
            if (this.automatic) return this.tells ? "" : NOT_TOLD;
            if (this.mixing || this.names.includes(name)) return "";
            return `There is no control ${name} in this file.`;
        }
    }

    function findUnits() {
        for (const tab of ["txt2img", "img2img"]) {
            const textbox = gradioApp().querySelector(`#script_${tab}_dmm_styles_controls textarea`);
            const models = gradioApp().querySelectorAll(`[id^="${tab}_controlnet_ControlNet"][id$="_controlnet_model_dropdown"]`);
            if (!textbox) continue;
            models.forEach((model, number) => {
                const prefix = model.id.slice(0, -"model_dropdown".length);
                const find = (item) => document.getElementById(prefix + item);
                units.push(new Unit(find, new Line(textbox, number)));
            });
        }
    }

    // Gradio tells no one when it sets a value: so look, as in dmm_styles.js.
    onUiLoaded(function () {
        findUnits();
        setInterval(function () {
            for (const unit of units) {
                unit.follow();
                unit.read();
            }
        }, 200);
    });
})();
