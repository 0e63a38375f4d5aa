// A mask painted with a brush: coverage from 0 to 1, coarse, since it is for latents and goes into
// the infotext. White where it covers, and transparent elsewhere.

var dmm = dmm || {};

(function () {
    "use strict";

    const LONGER_SIDE = 128; // as on the server

    class PaintedMask {
        /** @param {number} aspect - of the picture, its width by its height. */
        constructor(aspect) {
            this.canvas = document.createElement("canvas");
            this.canvas.width = Math.max(1, Math.round(LONGER_SIDE * Math.min(1, aspect)));
            this.canvas.height = Math.max(1, Math.round(LONGER_SIDE / Math.max(1, aspect)));
            this.context = this.canvas.getContext("2d", { willReadFrequently: true });
            this.tinted = document.createElement("canvas");
            this.changed();
        }

        /** Reads a picture: its white is the mask. Rejects what is no picture. */
        static async read(source) {
            const picture = new Image();
            picture.src = source;
            await picture.decode();
            const mask = new PaintedMask(picture.naturalWidth / picture.naturalHeight);
            const { width, height } = mask.canvas;
            mask.context.fillRect(0, 0, width, height); // black behind what is transparent
            mask.context.imageSmoothingQuality = "high";
            mask.context.drawImage(picture, 0, 0, width, height);
            const pixels = mask.context.getImageData(0, 0, width, height);
            for (let at = 0; at < pixels.data.length; at += 4) {
                const [red, green, blue] = pixels.data.slice(at, at + 3);
                const white = 0.299 * red + 0.587 * green + 0.114 * blue;
                pixels.data.set([255, 255, 255, white], at);
            }
            mask.context.putImageData(pixels, 0, 0);
            mask.changed();
            return mask;
        }

        /** Draws a line between two points, in fractions of the picture. */
        stroke(from, to, thickness, erases) {
            const { width, height } = this.canvas;
            const longer = Math.max(width, height);
            this.context.globalCompositeOperation = erases ? "destination-out" : "source-over";
            this.context.strokeStyle = "#fff";
            this.context.lineCap = this.context.lineJoin = "round";
            this.context.lineWidth = thickness * longer;
            this.context.beginPath();
            this.context.moveTo(from.x * width, from.y * height);
            // A line without length would not be drawn.
            this.context.lineTo(to.x * width + 1e-3, to.y * height);
            this.context.stroke();
            this.changed();
        }

        clear() {
            this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
            this.changed();
        }

        covers({ x, y }) {
            const { width, height } = this.canvas;
            return this.context.getImageData(x * width, y * height, 1, 1).data[3] > 127;
        }

        /** The mask in a colour, to be laid over the picture. */
        inColour(colour) {
            if (this.colour !== colour) {
                this.colour = colour;
                const { width, height } = this.canvas;
                Object.assign(this.tinted, { width, height });
                const context = this.tinted.getContext("2d");
                context.drawImage(this.canvas, 0, 0);
                context.globalCompositeOperation = "source-in";
                context.fillStyle = colour;
                context.fillRect(0, 0, width, height);
            }
            return this.tinted;
        }

        changed() {
            this.colour = this.file = null;
            this.box = this.boundingBox();
        }

        /** What it covers, in fractions of the picture; null where it covers nothing. */
        boundingBox() {
            const { width, height } = this.canvas;
            const { data } = this.context.getImageData(0, 0, width, height);
            let [left, top, right, bottom] = [width, height, 0, 0];
            for (let y = 0; y < height; y++) {
                for (let x = 0; x < width; x++) {
                    if (data[4 * (y * width + x) + 3] < 8) continue;
                    [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
                    [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
                }
            }
            if (!right) return null;
            const box = { x: left / width, y: top / height };
            return { ...box, width: right / width - box.x, height: bottom / height - box.y };
        }

        /** The mask as a file in base64, "" where it covers nothing. */
        get png() {
            this.file ??= this.box ? this.canvas.toDataURL("image/png").split(",")[1] : "";
            return this.file;
        }
    }

    Object.assign(dmm, { PaintedMask });
})();
