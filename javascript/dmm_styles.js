// The "DMM styles" accordion: a slider for each style of the chosen checkpoint, and regions.

(function () {
    "use strict";

    const CHECKPOINT = "#setting_sd_model_checkpoint input, .model_selection input";

    const tabs = []; // what follows the checkpoint and the textboxes of a tab
    let checkpoint = null;

    function findTabs() {
        for (const tab of ["txt2img", "img2img"]) {
            const find = (item) => gradioApp().querySelector(`#script_${tab}_dmm_styles_${item}`);
            const textbox = (item) => find(item)?.querySelector("textarea, input");
            if (!find("sliders") || !textbox("mix")) continue;
            const [mix, regions] = [textbox("mix"), textbox("regions")];
            const layout = { columns: textbox("columns"), rows: textbox("rows") };
            tabs.push(new dmm.Sliders(find("sliders"), mix));
            tabs.push(new dmm.RegionEditor(find("region_editor"), tab, { mix, regions, ...layout }));
        }
    }

    async function followCheckpoint() {
        const chosen = gradioApp().querySelector(CHECKPOINT)?.value ?? "";
        if (chosen === checkpoint) return;
        checkpoint = chosen;
        const [names, notice] = chosen ? await askForStyles(chosen) : [[], "No checkpoint is chosen."];
        if (chosen !== checkpoint) return; // another was chosen in the meantime
        for (const sliders of tabs) sliders.show(names, notice);
    }

    async function askForStyles(chosen) {
        try {
            const answer = await fetch(`./dmm/styles?checkpoint=${encodeURIComponent(chosen)}`);
            const said = await answer.json();
            if (!answer.ok) return [[], said.errors || said.detail];
            if (said.styles.length) return [said.styles, ""];
            return [[], `${said.checkpoint} is a plain checkpoint without styles, so it paints as ever.`];
        } catch (error) {
            return [[], `The styles could not be read: ${error.message}`];
        }
    }

    // Gradio tells no one when it sets a value, as it does where an infotext is pasted: so look.
    onUiLoaded(function () {
        findTabs();
        setInterval(function () {
            followCheckpoint();
            for (const sliders of tabs) sliders.read();
        }, 200);
    });
})();
