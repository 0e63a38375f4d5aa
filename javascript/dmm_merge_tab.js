// The tab "DMM merge": a form on the left, and how the merge goes on the right.

var dmm = dmm || {};

(function () {
    "use strict";

    const LOOK_EVERY = 1000; // milliseconds

    const element = (...parts) => dmm.element(...parts);

    class MergeTab {
        constructor(page) {
            this.form = new dmm.MergeForm();
            this.run = new dmm.MergeRunPanel();
            this.trouble = element("p", { className: "dmm-message dmm-warning", hidden: true });
            this.install = element("p", { className: "dmm-message dmm-warning", hidden: true });
            this.notice = element("p", { className: "dmm-message", hidden: true });
            this.notice.setAttribute("role", "status");
            this.plan = element("table", { className: "dmm-plan", hidden: true });
            this.planButton = element("button", { type: "button", className: "dmm-button", textContent: "Plan", onclick: () => this.makePlan() });
            this.planButton.title = "Memory, time and disk, before anything starts";
            this.startButton = element("button", { type: "button", className: "dmm-button dmm-primary", textContent: "Start", onclick: () => this.start() });
            const left = element(
                "div",
                { className: "dmm-stack" },
                this.trouble,
                this.install,
                this.form.element,
                element("div", { className: "dmm-buttons" }, this.planButton, this.startButton),
                this.notice,
                this.plan,
            );
            page.replaceChildren(element("div", { className: "dmm-merge" }, left, this.run.element));
            this.page = page;
        }

        async load() {
            await this.form.load();
            this.install.textContent = this.form.choices.install;
            this.install.hidden = !this.install.textContent;
        }

        async makePlan() {
            await this.send(this.planButton, "The trainer looks at the files and measures a step …", async () => {
                this.showPlan(await dmm.ask("merge/plan", this.form.merge()));
                this.say("");
            });
        }

        async start() {
            await this.send(this.startButton, "Starting …", async () => {
                const { name } = await dmm.ask("merge/start", this.form.merge());
                this.say("");
                await this.run.follow(name);
            });
        }

        /** Does something that takes its time, and says what the user has to mend. */
        async send(button, meanwhile, action) {
            this.form.mark(null);
            this.plan.hidden = true;
            this.say(meanwhile);
            button.disabled = true;
            try {
                await action();
            } catch (error) {
                this.say(error.message, true);
                this.form.mark(error.field);
            } finally {
                button.disabled = false;
            }
        }

        say(text, isError = false) {
            this.notice.textContent = text;
            this.notice.hidden = !text;
            this.notice.classList.toggle("dmm-warning", isError);
        }

        showPlan(rows) {
            const cells = ([key, value]) => [element("th", { textContent: key }), element("td", { textContent: value })];
            this.plan.replaceChildren(...rows.map((row) => element("tr", {}, ...cells(row))));
            this.plan.hidden = false;
            this.plan.scrollIntoView({ block: "nearest" });
        }

        /** Looks how the merge goes, as long as the tab is open, and says why it cannot. */
        async look() {
            if (this.page.offsetParent === null || this.looks) return;
            this.looks = true;
            try {
                if (!this.form.isRestored) await this.load();
                await this.run.update();
                this.trouble.textContent = "";
            } catch (error) {
                this.trouble.textContent = error.message;
            } finally {
                this.trouble.hidden = !this.trouble.textContent;
                this.looks = false;
            }
        }
    }

    onUiLoaded(function () {
        const page = gradioApp().querySelector("#dmm_merge");
        if (!page) return;
        const tab = new MergeTab(page);
        setInterval(() => tab.look(), LOOK_EVERY);
    });
})();
