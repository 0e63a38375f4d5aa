// The form of the tab "DMM merge": what goes into a merge.

var dmm = dmm || {};

(function () {
    "use strict";

    const KEPT_UNDER = "dmm_merge_form"; // in the browser, so that a reload loses nothing
    const NUMBERS = [
        ["width", "Width", "Of the pictures, in pixels: what the teachers were made for", 512],
        ["height", "Height", "Of the pictures, in pixels: what the teachers were made for", 512],
        ["steps", "Steps", "Of the training"],
        ["batch_size", "Batch size", "Pictures the student learns from in a step"],
        ["micro_batch_size", "Batch in memory", "How many of them at once: fewer need less memory"],
        ["samples_every", "Sample grid every … steps", "Empty: only at the end"],
    ];
    const MICRO_BATCH = 4; // where the preset does not say it, which would be the whole batch
    const DATA = {
        prompts: "My prompts, which the teachers paint",
        synthetic: "Prompts that come with DMM, which the teachers paint",
        pictures: "A folder of pictures",
    };

    const element = (...parts) => dmm.element(...parts);
    const option = (value, text = value) => element("option", { value, textContent: text });
    const stem = (name) => name.replace(/^.*[\\/]/, "").replace(/\.[^.]*$/, "");

    function field(name, label, input, title = "") {
        input.setAttribute("aria-label", label);
        const caption = element("span", { textContent: label });
        const made = element("label", { className: "dmm-field", title }, caption, input);
        made.dataset.field = name;
        return made;
    }

    function number(properties = {}) {
        return element("input", { type: "number", min: 1, step: 1, ...properties });
    }

    /** Fills a list and keeps what was chosen in it, if that is still there. */
    function fill(select, options) {
        const chosen = select.value;
        select.replaceChildren(...options);
        choose(select, chosen);
    }

    function choose(select, value) {
        select.value = value;
        if (select.selectedIndex < 0) select.selectedIndex = 0;
    }

    class Teacher {
        constructor(form, values) {
            this.form = form;
            this.model = element("select", { onchange: () => this.update() });
            this.on = element("select");
            this.weight = number({ step: 0.05, min: "", value: values.weight ?? 1 });
            this.name = element("input", { type: "text", value: values.name ?? "" });
            this.clipSkip = number({ max: 12, placeholder: "auto", value: values.clip_skip ?? "" });
            const remove = element("button", {
                type: "button",
                className: "dmm-button",
                title: "Remove this teacher",
                textContent: "✕",
                onclick: () => form.removeTeacher(this),
            });
            const clipSkip = "1 reads the text encoder's last layer, 2 the one before, as anime models want";
            this.parts = {
                model: field("model", "Checkpoint or LoRA", this.model),
                on: field("on", "On", this.on, "The checkpoint that the LoRA stands on"),
                weight: field("weight", "Weight", this.weight),
                name: field("name", "Name of the style", this.name),
                clip_skip: field("clip_skip", "Clip skip", this.clipSkip, clipSkip),
            };
            const { model, name, on, weight, clip_skip } = this.parts;
            this.row = element(
                "div",
                { className: "dmm-teacher" },
                element("div", { className: "dmm-fields" }, model, remove),
                element("div", { className: "dmm-fields" }, name, on, weight, clip_skip),
            );
            this.list();
            choose(this.model, values.lora ? `lora:${values.lora}` : `checkpoint:${values.checkpoint}`);
            choose(this.on, values.lora ? values.checkpoint : "");
            this.update();
        }

        list() {
            const { checkpoints, loras } = this.form.choices;
            const group = (label, kind, names) => {
                const options = names.map((name) => option(`${kind}:${name}`, name));
                return element("optgroup", { label }, ...options);
            };
            fill(this.model, [
                option("", "Choose …"),
                group("Checkpoints", "checkpoint", checkpoints),
                ...(loras.length ? [group("LoRAs", "lora", loras)] : []),
            ]);
            fill(this.on, [option("", "the base"), ...checkpoints.map((name) => option(name))]);
            this.update();
        }

        get isLora() {
            return this.model.value.startsWith("lora:");
        }

        get chosen() {
            return this.model.value.replace(/^\w+:/, "");
        }

        update() {
            this.parts.on.hidden = this.parts.weight.hidden = !this.isLora;
            this.name.placeholder = stem(this.chosen);
        }

        values() {
            return {
                checkpoint: this.isLora ? this.on.value : this.chosen,
                lora: this.isLora ? this.chosen : "",
                weight: this.weight.valueAsNumber,
                name: this.name.value,
                clip_skip: whole(this.clipSkip),
            };
        }
    }

    /** A whole number, null where nothing is written, and the text where it is something else. */
    function whole(input) {
        if (input.validity.badInput) return "?";
        return input.value === "" ? null : input.valueAsNumber;
    }

    /** The form as this browser kept it; an empty one where nothing was kept, or it was spoilt. */
    function readKept() {
        let kept = {};
        try {
            kept = Object(JSON.parse(localStorage.getItem(KEPT_UNDER)));
        } catch {
            // Whatever stands there is no form of ours, and the next one goes over it.
        }
        const teachers = Array.isArray(kept.teachers) ? kept.teachers.map(Object) : [{}];
        return { ...kept, teachers };
    }

    class MergeForm {
        constructor() {
            this.choices = { checkpoints: [], loras: [], presets: {} };
            this.teachers = [];
            this.base = element("select");
            this.name = element("input", { type: "text", placeholder: "my styles" });
            this.list = element("div", { className: "dmm-teachers" });
            this.data = element("select", { onchange: () => this.update() });
            this.prompts = element("textarea", { rows: 6, placeholder: "A prompt a line" });
            this.pictures = element("input", { type: "text", placeholder: "Its whole path, on the WebUI's machine" });
            this.perTeacher = number();
            this.preset = element("select", { onchange: () => this.update() });
            this.presetNotice = element("p", { className: "dmm-notice" });
            this.precision = element("select");
            fill(this.precision, [option("", "as the preset"), ...["fp32", "bf16", "fp16"].map((it) => option(it))]);
            this.numbers = new Map(NUMBERS.map(([name, , , value]) => [name, number({ value: value ?? "" })]));
            this.more = element("textarea", { rows: 3, placeholder: "train.learning_rate=1e-5\ntrain.seed=7" });
            this.synthesised = element("input", { type: "checkbox", checked: true });
            this.unload = element("input", { type: "checkbox", checked: true });
            this.output = element("p", { className: "dmm-notice" });
            this.draw();
            this.element.addEventListener("input", () => this.keep());
        }

        draw() {
            const add = this.button("Add a teacher", () => this.addTeacher({}));
            const refresh = this.button("Refresh the lists", () => this.load(true));
            const file = element("input", { type: "file", accept: ".txt,text/plain", hidden: true });
            file.addEventListener("change", async () => {
                if (file.files.length) this.prompts.value = await file.files[0].text();
                file.value = "";
                this.keep();
            });
            this.promptsPart = element(
                "div",
                { className: "dmm-stack" },
                field("prompts", "Prompts", this.prompts),
                this.button("Read a file of prompts", () => file.click()),
                file,
            );
            this.paintedPart = field("pictures_per_teacher", "Pictures that each teacher paints", this.perTeacher);
            const captions = "Each picture has its caption in a text file of the same name beside it.";
            this.picturesPart = field("pictures", "Folder", this.pictures, captions);
            const numbers = NUMBERS.map(([name, label, title]) => field(name, label, this.numbers.get(name), title));
            const check = (input, label) => element("label", { className: "dmm-check" }, input, label);
            this.synthesisedPart = check(this.synthesised, "Fine-tune at the end on pictures that the teachers paint, as the preset");
            const more = "YAML, or lines of key=value, for train, samples, export and data.painting";
            this.element = element(
                "div",
                { className: "dmm-stack" },
                field("base", "Base checkpoint", this.base, "Gives the merged file its text encoder, VAE and first weights; a merged one gets the new styles added"),
                heading("Teachers: the styles to learn"),
                this.list,
                element("div", { className: "dmm-buttons" }, add, refresh),
                heading("What they teach with"),
                field("data", "Data", this.data),
                this.promptsPart,
                this.paintedPart,
                this.picturesPart,
                heading("The merge"),
                element(
                    "div",
                    { className: "dmm-fields" },
                    field("name", "Name of the merged file", this.name),
                    field("preset", "Preset", this.preset),
                    field("precision", "Precision", this.precision, "Of the arithmetic: bf16 is fastest on GPUs that have it"),
                ),
                this.presetNotice,
                this.output,
                element("div", { className: "dmm-fields dmm-numbers" }, ...numbers),
                this.synthesisedPart,
                field("more", "More settings", this.more, more),
                check(this.unload, "Unload the WebUI's own checkpoint first, so that the trainer has the memory"),
            );
            // Of the teachers, whose rows have fields of their own, there are none yet.
            const fields = [...this.element.querySelectorAll("[data-field]")];
            this.fields = new Map(fields.map((made) => [made.dataset.field, made]));
        }

        button(textContent, onclick) {
            return element("button", { type: "button", className: "dmm-button", textContent, onclick });
        }

        /** Asks the server what there is to choose from. */
        async load(refresh = false) {
            this.choices = await dmm.ask(`merge/choices?refresh=${refresh}`);
            const { checkpoints, presets, folders } = this.choices;
            fill(this.base, [option("", "Choose …"), ...checkpoints.map((name) => option(name))]);
            fill(this.preset, Object.keys(presets).map((name) => option(name)));
            const kinds = Object.entries(DATA).filter(([kind]) => folders || kind !== "pictures");
            fill(this.data, kinds.map(([kind, label]) => option(kind, label)));
            for (const teacher of this.teachers) teacher.list();
            if (!this.isRestored) this.restore();
            this.update();
        }

        update() {
            this.promptsPart.hidden = this.data.value !== "prompts";
            this.picturesPart.hidden = this.data.value !== "pictures";
            this.paintedPart.hidden = this.data.value === "pictures";
            this.perTeacher.placeholder = this.data.value === "prompts" ? "one of every prompt" : "1000";
            const { description, folder, train, synthesised } = this.chosenPreset;
            this.presetNotice.textContent = `${description}.`;
            this.output.textContent = `It is written to ${folder}, where the WebUI finds it.`;
            for (const [name, input] of this.numbers) {
                input.placeholder = train[name] ? `${train[name]}, as the preset` : "";
            }
            if (!train.micro_batch_size) this.numbers.get("micro_batch_size").placeholder = MICRO_BATCH;
            this.synthesisedPart.hidden = !synthesised;
        }

        get chosenPreset() {
            return this.choices.presets[this.preset.value];
        }

        addTeacher(values) {
            const teacher = new Teacher(this, values);
            this.teachers.push(teacher);
            this.list.append(teacher.row);
            this.keep();
        }

        removeTeacher(teacher) {
            this.teachers = this.teachers.filter((other) => other !== teacher);
            teacher.row.remove();
            this.keep();
        }

        values() {
            const numbers = [...this.numbers].map(([name, input]) => [name, whole(input)]);
            return {
                base: this.base.value,
                teachers: this.teachers.map((teacher) => teacher.values()),
                data: this.data.value,
                prompts: this.prompts.value,
                pictures: this.pictures.value,
                pictures_per_teacher: whole(this.perTeacher),
                name: this.name.value,
                preset: this.preset.value,
                precision: this.precision.value,
                ...Object.fromEntries(numbers),
                more: this.more.value,
                synthesised: this.synthesised.checked,
                unload: this.unload.checked,
            };
        }

        /** The merge that is asked for: the values, and what neither they nor the preset say. */
        merge() {
            const values = this.values();
            if (!this.chosenPreset.train.micro_batch_size) values.micro_batch_size ??= MICRO_BATCH;
            return values;
        }

        keep() {
            if (this.isRestored) localStorage.setItem(KEPT_UNDER, JSON.stringify(this.values()));
        }

        /** Shows what was kept. */
        restore() {
            const kept = readKept();
            for (const name of ["base", "data", "preset", "precision"]) choose(this[name], kept[name]);
            for (const name of ["prompts", "pictures", "name", "more"]) this[name].value = kept[name] ?? "";
            for (const [name, input] of this.numbers) if (name in kept) input.value = kept[name] ?? "";
            this.perTeacher.value = kept.pictures_per_teacher ?? "";
            for (const name of ["synthesised", "unload"]) this[name].checked = kept[name] ?? true;
            for (const teacher of kept.teachers) this.addTeacher(teacher);
            this.isRestored = true;
        }

        /** Marks the field that an answer is about, "teachers.0.name"; none unmarks all. */
        mark(name) {
            for (const marked of this.element.querySelectorAll(".dmm-wrong")) marked.classList.remove("dmm-wrong");
            const [section, index, part] = (name ?? "").split(".");
            const wrong = section === "teachers"
                ? (this.teachers[index]?.parts[part] ?? this.list)
                : this.fields.get(section);
            wrong?.classList.add("dmm-wrong");
            wrong?.scrollIntoView({ block: "nearest" });
        }
    }

    function heading(textContent) {
        return element("h4", { className: "dmm-heading", textContent });
    }

    Object.assign(dmm, { MergeForm });
})();
