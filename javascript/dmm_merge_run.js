// How a merge goes, in the tab "DMM merge": progress, sample grids, log, and its buttons.

var dmm = dmm || {};

(function () {
    "use strict";

    const STATES = {
        running: "At work",
        stopping: "Stopping: the trainer ends its step and saves",
        stopped: "Stopped",
        failed: "Failed",
        finished: "Finished",
    };
    // The hosts' own buttons that read their folders again.
    const REFRESH_CHECKPOINTS = "#refresh_sd_model_checkpoint, #forge_refresh_checkpoint";
    const REFRESH_LORAS = "#txt2img_lora_extra_refresh_internal, #img2img_lora_extra_refresh_internal";

    const element = (...parts) => dmm.element(...parts);

    class MergeRunPanel {
        constructor() {
            this.names = [];
            this.listed = new Set(); // finished merges that the host's lists were told of
            this.choice = element("select", { onchange: () => this.follow(this.choice.value) });
            this.choice.setAttribute("aria-label", "Merge");
            this.state = element("p", { className: "dmm-state" });
            this.bar = element("progress", { max: 100 });
            this.progress = element("p", { className: "dmm-notice" });
            this.message = element("p", { className: "dmm-message" });
            this.refusal = element("p", { className: "dmm-message dmm-warning", hidden: true });
            this.stop = this.button("Stop", () => this.act("stop"));
            this.resume = this.button("Resume", () => this.act("resume"));
            this.use = this.button("Use it now", () => this.choose());
            this.remove = this.button("Remove", () => this.confirmRemove());
            this.grids = element("select", { onchange: () => this.showGrid() });
            this.grids.setAttribute("aria-label", "Sample grid");
            this.grid = element("img", { alt: "Sample grid: each style by its teacher and by the student" });
            this.link = element("a", { target: "_blank", className: "dmm-grid" }, this.grid);
            this.log = element("pre", { className: "dmm-log" });
            const summary = element("summary", { textContent: "Log" });
            this.logPart = element("details", {}, summary, this.log);
            this.details = element(
                "div",
                { className: "dmm-stack" },
                this.state,
                this.bar,
                this.progress,
                this.message,
                element("div", { className: "dmm-buttons" }, this.stop, this.resume, this.use, this.remove),
                this.refusal,
                this.grids,
                this.link,
                this.logPart,
            );
            this.none = element("p", { className: "dmm-notice", textContent: "Nothing was merged here yet." });
            const heading = element("h4", { className: "dmm-heading", textContent: "Merges" });
            this.element = element("div", { className: "dmm-stack" }, heading, this.none, this.choice, this.details);
            this.showNames();
        }

        button(textContent, onclick) {
            return element("button", { type: "button", className: "dmm-button", textContent, onclick });
        }

        /** Asks for the merges there are, and how the chosen one stands. */
        async update() {
            const names = await dmm.ask("merge/runs");
            if (names.join("\n") !== this.names.join("\n")) {
                this.names = names;
                this.showNames();
            }
            const name = this.choice.value;
            if (!name) return;
            const status = await dmm.ask(`merge/status?name=${encodeURIComponent(name)}`);
            if (name === this.choice.value) this.show(name, status);
        }

        showNames() {
            const chosen = this.choice.value;
            this.choice.replaceChildren(...this.names.map((name) => element("option", { value: name, textContent: name })));
            this.choice.value = this.names.includes(chosen) ? chosen : (this.names[0] ?? "");
            this.none.hidden = this.names.length > 0;
            this.choice.hidden = this.details.hidden = !this.names.length;
        }

        /** Shows this merge from now on. */
        async follow(name) {
            if (!this.names.includes(name)) {
                this.names.unshift(name);
                this.showNames();
            }
            this.choice.value = name;
            this.refuse("");
            await this.update();
        }

        show(name, status) {
            const { state, task, percent, done, left, loss, message } = status;
            const works = state === "running" || state === "stopping";
            this.shown = { name, ...status };
            this.state.textContent = STATES[state];
            this.state.dataset.state = state;
            this.bar.hidden = !works;
            if (task) this.bar.value = percent;
            else this.bar.removeAttribute("value");
            const parts = works ? [task ? `${task}: ${done}` : "The trainer starts", left && left !== "?" ? `${left} left` : ""] : [];
            if (loss !== null) parts.push(`loss ${loss.toPrecision(3)}`);
            this.progress.textContent = parts.filter(Boolean).join(" · ");
            this.progress.hidden = !this.progress.textContent;
            this.message.textContent = state === "finished" ? whereItIs(status) : message;
            this.message.hidden = !this.message.textContent;
            this.message.classList.toggle("dmm-warning", state === "failed");
            this.stop.hidden = state !== "running";
            this.resume.hidden = state !== "stopped" && state !== "failed";
            this.use.hidden = state !== "finished" || !status.checkpoint;
            this.remove.hidden = works;
            this.listGrids(name, status.pictures);
            this.log.textContent = status.log.join("\n");
            this.logPart.hidden = !status.log.length;
            if (state === "finished" && !this.listed.has(name)) {
                this.listed.add(name);
                const buttons = gradioApp().querySelectorAll(status.lora ? REFRESH_LORAS : REFRESH_CHECKPOINTS);
                for (const button of buttons) button.click();
            }
        }

        /** Lists the sample grids, and shows a new one as it comes unless an older one was chosen. */
        listGrids(name, pictures) {
            const key = [name, ...pictures].join("\n");
            if (key === this.listedGrids) return;
            const options = [...this.grids.options];
            const isNewest = !options.length || this.grids.selectedIndex === options.length - 1;
            const chosen = this.listedGrids?.startsWith(`${name}\n`) && !isNewest ? this.grids.value : pictures.at(-1);
            this.listedGrids = key;
            this.grids.replaceChildren(...pictures.map((file) => element("option", { value: file, textContent: label(file) })));
            this.grids.value = chosen ?? "";
            this.grids.hidden = pictures.length < 2;
            this.showGrid();
        }

        showGrid() {
            const query = new URLSearchParams({ name: this.choice.value, file: this.grids.value });
            this.link.hidden = !this.grids.value;
            if (this.grids.value) this.link.href = this.grid.src = `./dmm/merge/picture?${query}`;
        }

        async act(action) {
            this.refuse("");
            try {
                await dmm.ask(`merge/${action}`, { name: this.choice.value });
                await this.update();
            } catch (error) {
                this.refuse(error.message);
            }
        }

        /** Says why a button did nothing, until another is pressed or another merge is shown. */
        refuse(text) {
            this.refusal.textContent = text;
            this.refusal.hidden = !text;
        }

        async confirmRemove() {
            const name = this.choice.value;
            const isFinished = this.shown?.name === name && this.shown.state === "finished";
            const kept = isFinished ? `\n${this.shown.output} stays.` : "";
            if (!confirm(`Remove the working files of "${name}": saved steps, sample grids and log?${kept}`)) return;
            await this.act("remove");
        }

        /** Loads the merged checkpoint as a click on its card would; an adapter's base, and it. */
        choose() {
            const { checkpoint, lora } = this.shown;
            selectCheckpoint(checkpoint);
            if (!lora) return;
            const prompt = gradioApp().querySelector("#txt2img_prompt textarea");
            if (prompt.value.includes(`<lora:${lora}:`)) return;
            prompt.value = `${prompt.value} ${loraTag(lora)}`.trim();
            updateInput(prompt);
        }
    }

    function whereItIs({ output, lora }) {
        return lora
            ? `${output} is among the LoRAs: on its base, ${loraTag(lora)} in a prompt brings its styles.`
            : `${output} is in the checkpoint list.`;
    }

    function loraTag(name) {
        return `<lora:${name}:1>`;
    }

    function label(file) {
        const step = file.match(/step-0*(\d+)\.png$/);
        if (!step) return "The end";
        return file.startsWith("synthesised/") ? `Fine-tuning, step ${step[1]}` : `Step ${step[1]}`;
    }

    Object.assign(dmm, { MergeRunPanel });
})();
