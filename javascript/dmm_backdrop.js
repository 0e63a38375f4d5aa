// What regions are drawn over: the picture that goes into img2img, else the last that was painted,
// else a grid; at the shape of the picture that will be painted.

var dmm = dmm || {};

(function () {
    "use strict";

    // The inputs of img2img, tab by tab; those from the third on are for inpainting.
    const INPUTS = ["img2img_image", "img2img_sketch", "img2maskimg", "inpaint_sketch", "img_inpaint_base"];
    const FIRST_OF_INPAINTING = 2;
    const SCRIPT = "#img2img_script_container #script_list input";
    const TILES = "SD upscale";
    const CELL = 64; // of the grid, in pixels of the picture

    const FITS = { STRETCH: "Just resize", COVER: "Crop and resize", CONTAIN: "Resize and fill" };

    class Backdrop {
        /** @param {string} tab - "txt2img" or "img2img". */
        constructor(tab) {
            this.tab = tab;
            this.load("");
            this.shown = "";
            this.width = this.height = 512;
            this.fit = FITS.COVER;
        }

        /** Looks whether anything has changed. */
        look() {
            const input = this.tab === "img2img" ? this.input() : null;
            const picture = input ?? gradioApp().querySelector(`#${this.tab}_gallery img`);
            const source = picture?.currentSrc || picture?.src || "";
            if (source !== this.source) this.load(source);
            const [width, height] = this.size(input);
            const fit = input && !this.paintsParts() ? this.resizeMode() : FITS.COVER;
            const looks = [source, this.image.complete, width, height, fit].join();
            const changed = looks !== this.shown;
            Object.assign(this, { shown: looks, width, height, fit });
            return changed;
        }

        load(source) {
            this.source = source;
            this.image = new Image();
            if (source) this.image.src = source;
        }

        get aspect() {
            return this.width / this.height;
        }

        input() {
            const images = gradioApp().querySelectorAll(`#${INPUTS[get_tab_index("mode_img2img")]} img`);
            return [...images].find((image) => image.naturalWidth) ?? null;
        }

        /** The size of the picture on which regions lie. */
        size(input) {
            const natural = input && [input.naturalWidth, input.naturalHeight];
            if (natural && (this.paintsParts() || get_tab_index("img2img_tabs_resize") === 1)) return natural;
            return ["width", "height"].map((side) => {
                const number = gradioApp().querySelector(`#${this.tab}_${side} input[type=number]`);
                return Number(number?.value) || 512;
            });
        }

        /** Whether the host paints parts of the input, at a size of their own, and puts them back. */
        paintsParts() {
            if (gradioApp().querySelector(SCRIPT)?.value === TILES) return true;
            const area = gradioApp().querySelector("#img2img_inpaint_full_res input:checked");
            return get_tab_index("mode_img2img") >= FIRST_OF_INPAINTING && area?.value === "Only masked";
        }

        resizeMode() {
            return gradioApp().querySelector("#resize_mode input:checked")?.value ?? FITS.STRETCH;
        }

        draw(context, width, height) {
            context.fillStyle = "#8a8f98";
            context.fillRect(0, 0, width, height);
            if (this.image.naturalWidth) this.drawImage(context, width, height);
            else this.drawGrid(context, width, height);
        }

        drawImage(context, width, height) {
            const { naturalWidth, naturalHeight } = this.image;
            const scales = [width / naturalWidth, height / naturalHeight];
            let [across, down] = scales;
            if (this.fit === FITS.COVER) across = down = Math.max(...scales);
            if (this.fit === FITS.CONTAIN) across = down = Math.min(...scales);
            const [wide, high] = [naturalWidth * across, naturalHeight * down];
            context.drawImage(this.image, (width - wide) / 2, (height - high) / 2, wide, high);
        }

        drawGrid(context, width, height) {
            const step = (CELL * width) / this.width;
            context.strokeStyle = "#ffffff30";
            context.lineWidth = 1;
            context.beginPath();
            for (let x = step; x < width; x += step) {
                context.moveTo(x, 0);
                context.lineTo(x, height);
            }
            for (let y = step; y < height; y += step) {
                context.moveTo(0, y);
                context.lineTo(width, y);
            }
            context.stroke();
        }
    }

    Object.assign(dmm, { Backdrop });
})();
