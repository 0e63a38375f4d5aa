// Regions as text, a line each, which is what the server reads (see sd_webui_dmm/regions/lines.py):
//
//     ink:0.7, anime:0.3 @ 0.1, 0.2, 0.5, 0.4 feather 16
//     photo @ mask iVBORw0KGgo…
//
// Lines without an @ are for the cells of the layout, row by row.

var dmm = dmm || {};

(function () {
    "use strict";

    /**
     * Every line has a mix, and one of: a rectangle, the base64 of a mask, or neither for a cell.
     * One that makes no sense is kept as it is, for the server to say so.
     */
    function parseRegions(text) {
        return text.trimEnd().split("\n").map(parseLine);
    }

    function parseLine(line) {
        line = line.trim();
        const at = line.lastIndexOf("@");
        if (at < 0 || (at > 0 && line[at - 1].trim())) return { mix: line };
        const words = line.slice(at + 1).trim().split(/\s+/);
        const region = { mix: line.slice(0, at).trim(), feather: null };
        if (words.at(-2) === "feather") region.feather = Number(words.splice(-2)[1]);
        if (words[0] === "mask" && words.length > 1) return { ...region, png: words.slice(1).join("") };
        const [x, y, width, height, ...more] = words.join("").split(",").map(Number);
        const numbers = [x, y, width, height, region.feather ?? 0];
        const makesSense = numbers.every(Number.isFinite) && width > 0 && height > 0 && !more.length;
        return makesSense ? { ...region, rectangle: { x, y, width, height } } : { mix: "", unread: line };
    }

    function formatRegions(regions) {
        return regions.map(formatLine).join("\n");
    }

    function formatLine({ mix, rectangle, png, feather, unread }) {
        if (unread) return unread;
        if (!rectangle && !png) return mix;
        const place = rectangle ? formatRectangle(rectangle) : `mask ${png}`;
        return `${mix} @ ${place}${feather === null ? "" : ` feather ${feather}`}`.trimStart();
    }

    function formatRectangle({ x, y, width, height }) {
        // The far sides are rounded, not the lengths, so that neighbours stay neighbours.
        const [left, top, right, bottom] = [x, y, x + width, y + height].map(thousandths);
        return [left, top, right - left, bottom - top].map((side) => side / 1000).join(", ");
    }

    function thousandths(fraction) {
        return Math.round(fraction * 1000);
    }

    /** The cells of a layout of ratios such as "1,2,1", row by row. */
    function cellsOf(columns, rows) {
        const across = spans(columns);
        return spans(rows).flatMap(([y, height]) => across.map(([x, width]) => ({ x, y, width, height })));
    }

    function spans(text) {
        const ratios = text.trim() ? text.split(",").map(Number) : [1];
        if (!ratios.every((ratio) => ratio > 0)) return [[0, 1]]; // the server says what is wrong
        const sum = ratios.reduce((one, other) => one + other);
        let end = 0;
        return ratios.map((ratio) => {
            const start = end;
            end += ratio / sum;
            return [start, ratio / sum];
        });
    }

    Object.assign(dmm, { parseRegions, formatRegions, cellsOf });
})();
