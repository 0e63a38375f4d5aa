// Presets in the "DMM styles" accordion: mixes with a name, which the server keeps in a file.

(function () {
    "use strict";

    const { element } = dmm;

    class PresetsBar {
        /** @param {(item: string) => Element} find a part of the accordion by its name */
        constructor(find) {
            this.find = find;
            this.presets = {};
            this.select = element("select", { className: "dmm-presets", title: "Presets" });
            this.select.addEventListener("change", () => this.recall(this.select.value));
            this.notice = element("p", { className: "dmm-notice", hidden: true });
            const bar = element(
                "div",
                { className: "dmm-buttons" },
                this.select,
                this.button("Save", "Keep this mix as a preset", () => this.save()),
                this.button("Delete", "Delete the chosen preset", () => this.remove()),
            );
            find("presets").replaceChildren(bar, this.notice);
            this.request(() => dmm.ask("presets"));
        }

        button(label, title, onclick) {
            return element("button", { type: "button", className: "dmm-button", title, onclick }, label);
        }

        /** Shows all presets as the server has them afterwards, or why it refused. */
        async request(ask) {
            try {
                const presets = await ask();
                bars.forEach((bar) => bar.show(presets));
                this.say("");
                return true;
            } catch (error) {
                this.say(error.message);
                return false;
            }
        }

        say(notice) {
            this.notice.textContent = notice;
            this.notice.hidden = !notice;
        }

        show(presets) {
            const chosen = this.select.value;
            this.presets = presets;
            const names = Object.keys(presets).sort((a, b) => a.localeCompare(b));
            const options = names.map((name) => element("option", { value: name, title: presets[name].mix }, name));
            const none = names.length ? "Presets" : "No presets yet";
            this.select.replaceChildren(element("option", { value: "" }, none), ...options);
            this.select.value = Object.hasOwn(presets, chosen) ? chosen : "";
        }

        recall(name) {
            const preset = this.presets[name];
            if (!preset) return;
            this.say("");
            for (const input of this.find("strength").querySelectorAll("input")) write(input, preset.strength);
            const normalise = this.find("normalise").querySelector("input");
            if (normalise.checked !== preset.normalise) normalise.click();
            const choices = this.find("mixing").querySelectorAll("input");
            [...choices].find((choice) => choice.value === preset.mixing).click();
            write(this.find("mix").querySelector("textarea, input"), preset.mix);
        }

        async save() {
            const mix = this.find("mix").querySelector("textarea, input").value.trim();
            if (!mix) return this.say("There is no mix to save yet. Move a slider first.");
            const name = prompt("The name of the preset", this.select.value)?.trim();
            if (!name) return;
            const replaces = Object.hasOwn(this.presets, name);
            if (replaces && !confirm(`Replace the preset "${name}"?`)) return;
            const preset = {
                name,
                mix,
                normalise: this.find("normalise").querySelector("input").checked,
                strength: Number(this.find("strength").querySelector("input").value),
                mixing: this.find("mixing").querySelector("input:checked").value,
            };
            if (await this.request(() => dmm.ask("presets", preset, "PUT"))) this.select.value = name;
        }

        async remove() {
            const name = this.select.value;
            if (!name) return this.say("Choose the preset to delete first.");
            if (!confirm(`Delete the preset "${name}"?`)) return;
            const query = new URLSearchParams({ name });
            await this.request(() => dmm.ask(`presets?${query}`, undefined, "DELETE"));
        }
    }

    function write(input, value) {
        input.value = value;
        updateInput(input);
    }

    const bars = [];

    onUiLoaded(function () {
        for (const tab of ["txt2img", "img2img"]) {
            const find = (item) => gradioApp().querySelector(`#script_${tab}_dmm_styles_${item}`);
            if (find("presets")) bars.push(new PresetsBar(find));
        }
    });
})();
