// The tab "DMM" among the extra networks: its cards follow the checkpoint, and get their pictures.

(function () {
    "use strict";

    const TABS = ["txt2img", "img2img"];
    const PATIENCE = 5000; // ms until a refresh is asked for once more

    let painting = false;
    let refreshed = 0; // when

    const pane = (tab) => gradioApp().querySelector(`#${tab}_dmm_cards_html`);
    const cards = (tab) => [...gradioApp().querySelectorAll(`#${tab}_dmm_cards .card`)];

    function refresh(tab) {
        gradioApp().querySelector(`#${tab}_dmm_extra_refresh_internal`).click();
    }

    /** Where the tab is open and shows another checkpoint's cards, asks for those of this one. */
    async function followCheckpoint() {
        const tab = TABS.find((name) => pane(name)?.offsetParent);
        if (!tab || painting || Date.now() < refreshed + PATIENCE) return;
        const answer = await dmm.ask("styles").catch(() => null);
        if (!answer) return;
        const { checkpoint, styles } = answer;
        const shown = cards(tab).map((card) => card.dataset.name);
        const same = shown.sort().join("\n") === styles.sort().join("\n");
        if (same && pane(tab).querySelector(".dmm-previews")?.dataset.checkpoint === checkpoint) return;
        refreshed = Date.now();
        refresh(tab);
    }

    /** Paints the pictures one by one, until all are there or the button is pressed once more. */
    async function paintPreviews(tab) {
        if (painting) {
            painting = false;
            return;
        }
        const names = cards(tab).filter((card) => !card.querySelector("img.preview"));
        const missing = (names.length ? names : cards(tab)).map((card) => card.dataset.name);
        painting = true;
        let problem = "";
        for (const [index, name] of missing.entries()) {
            say(tab, "Stop", `Painting ${name}, ${index + 1} of ${missing.length}`);
            problem = await paint(name);
            if (problem || !painting) break;
        }
        painting = false;
        say(tab, "Paint previews", problem);
        if (!problem) TABS.forEach(refresh);
    }

    /** Paints a style's picture and shows it on its cards; returns what went wrong, if anything. */
    async function paint(style) {
        try {
            const { preview } = await dmm.ask("preview", { style });
            const shown = TABS.flatMap(cards).filter((card) => card.dataset.name === style);
            for (const card of shown) {
                card.querySelector("img.preview")?.remove();
                card.prepend(dmm.element("img", { className: "preview", src: preview }));
            }
            return "";
        } catch (error) {
            return error.message;
        }
    }

    function say(tab, label, notice) {
        pane(tab).querySelector(".dmm-paint").textContent = label;
        pane(tab).querySelector(".dmm-notice").textContent = notice;
    }

    onUiLoaded(function () {
        for (const tab of TABS.filter(pane)) {
            pane(tab).addEventListener("click", (event) => {
                if (event.target.closest(".dmm-paint")) paintPreviews(tab);
            });
        }
        setInterval(followCheckpoint, 1000);
    });
})();
