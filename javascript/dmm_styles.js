// The "DMM styles" accordion: a slider for each style of the chosen checkpoint, or of the adapter
// in the prompt, and regions.

(function () {
    "use strict";

    const CHECKPOINT = "#setting_sd_model_checkpoint input, .model_selection input";

    const LORA = /<lora:[^:>]+(?=[^>]*>)/g; // without its weight

    const tabs = []; // each with what follows its textboxes, the checkpoint and the prompt

    function findTabs() {
        for (const tab of ["txt2img", "img2img"]) {
            const find = (item) => gradioApp().querySelector(`#script_${tab}_dmm_styles_${item}`);
            const textbox = (item) => find(item)?.querySelector("textarea, input");
            if (!find("sliders") || !textbox("mix")) continue;
            const [mix, regions] = [textbox("mix"), textbox("regions")];
            const [columns, rows, feather] = ["columns", "rows", "feather"].map(textbox);
            const followers = [
                new dmm.Sliders(find("sliders"), mix),
                new dmm.RegionEditor(find("region_editor"), tab, { mix, regions, columns, rows, feather }),
            ];
            tabs.push({ followers, prompt: gradioApp().querySelector(`#${tab}_prompt textarea`), asked: null });
        }
    }

    async function followFiles(tab) {
        const checkpoint = gradioApp().querySelector(CHECKPOINT)?.value ?? "";
        const loras = tab.prompt?.value.match(LORA) ?? [];
        const query = new URLSearchParams({ checkpoint, prompt: loras.map((lora) => `${lora}>`).join("") });
        const asked = query.toString();
        if (asked === tab.asked) return;
        tab.asked = asked;
        const forget = () => asked === tab.asked && (tab.asked = null);
        const [names, notice] = checkpoint ? await askForStyles(asked, forget) : [[], "No checkpoint is chosen."];
        if (asked !== tab.asked) return; // another was chosen in the meantime
        for (const follower of tab.followers) follower.show(names, notice);
    }

    /** Names and a notice; where the server fails, it is soon asked again, once this is forgotten. */
    async function askForStyles(query, forget) {
        try {
            const said = await dmm.ask(`styles?${query}`);
            if (said.styles.length) return [said.styles, said.sampling ? `Made for ${said.sampling}.` : ""];
            return [[], `${said.checkpoint} is a plain checkpoint without styles, so it paints as ever.`];
        } catch (error) {
            setTimeout(forget, dmm.ASK_AGAIN_AFTER);
            return [[], error.message];
        }
    }

    // Gradio tells no one when it sets a value, as it does where an infotext is pasted: so look.
    onUiLoaded(function () {
        findTabs();
        setInterval(function () {
            for (const tab of tabs) {
                followFiles(tab);
                for (const follower of tab.followers) follower.read();
            }
        }, 200);
    });
})();
