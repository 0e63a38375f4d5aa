// The canvas on which regions are drawn, dragged, resized and painted, by mouse, pen, finger or
// keyboard. It knows nothing of textboxes: the editor does.

var dmm = dmm || {};

(function () {
    "use strict";

    const HANDLE = 4; // half its side, in CSS pixels
    const REACH = { mouse: 7, pen: 10, touch: 16 }; // how far from a handle it is taken, in CSS pixels
    const SNAP = 6; // how near the edge of the picture counts as on it, in CSS pixels
    const LEAST = 0.01; // the side of a rectangle
    const STEP = 0.01; // of an arrow key
    const SIGMA = 0.4; // of a feather of 1, as the server blurs
    const LABEL_WIDTH = 24; // at least, in CSS pixels
    const LABEL_PADDING = 5;
    const CORNERS = [0, 0.5, 1].flatMap((x) => [0, 0.5, 1].map((y) => ({ x, y })));
    const HANDLES = CORNERS.filter(({ x, y }) => x !== 0.5 || y !== 0.5);
    const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

    class RegionCanvas {
        /**
         * @param editor - has `regions`, `selected`, `brush`, `numberOf(region)`, `nameOf(region)` and
         *     `featherOf(region)`, and is told by `select(region)`, `add(region)`, `remove(region)` and
         *     `commit()`.
         */
        constructor(editor, backdrop) {
            this.editor = editor;
            this.backdrop = backdrop;
            this.element = dmm.element("canvas", { className: "dmm-region-canvas", tabIndex: 0 });
            this.element.setAttribute("role", "application");
            this.element.setAttribute("aria-label", "Regions of the picture");
            this.pointer = null; // where the brush is shown
            this.drag = null; // what a pressed pointer does: a function of a point
            const on = (event, handler) => this.element.addEventListener(event, handler.bind(this));
            on("pointerdown", this.press);
            on("pointermove", this.move);
            on("pointerup", this.release);
            on("pointercancel", this.release);
            on("pointerleave", this.leave);
            on("keydown", this.key);
            new ResizeObserver(() => this.draw()).observe(this.element);
        }

        // ---- pointers

        /** A point of the picture, in fractions; what is near its edge, or outside, is on the edge. */
        pointOf(event) {
            const { left, top, width, height } = this.element.getBoundingClientRect();
            return { x: snapped(event.clientX - left, width), y: snapped(event.clientY - top, height) };
        }

        press(event) {
            if (event.button !== 0) return;
            event.preventDefault();
            this.element.focus({ preventScroll: true });
            this.element.setPointerCapture(event.pointerId);
            const point = this.pointOf(event);
            this.drag = this.dragFrom(point, event);
            this.drag(point);
            this.draw();
        }

        move(event) {
            this.pointer = this.pointOf(event);
            if (this.drag) this.drag(this.pointer);
            else this.element.style.cursor = this.cursorAt(this.pointer, event.pointerType);
            this.draw();
        }

        release() {
            if (!this.drag) return;
            this.drag = null;
            this.editor.commit();
        }

        leave() {
            this.pointer = null;
            this.draw();
        }

        /** What a pointer does that is pressed at a point. */
        dragFrom(point, event) {
            const { selected } = this.editor;
            if (selected?.mask) return this.brushFrom(point, selected.mask);
            const handle = this.handleAt(point, event.pointerType);
            if (handle) return this.resizing(selected.rectangle, handle);
            const region = event.shiftKey ? null : this.regionAt(point);
            if (region?.rectangle) return this.moving(region, point);
            return this.drawing(point, region);
        }

        brushFrom(start, mask) {
            let last = start;
            return (point) => {
                mask.stroke(last, point, this.editor.brush.size, this.editor.brush.erases);
                last = point;
            };
        }

        resizing(rectangle, handle) {
            const before = { ...rectangle };
            return (point) => {
                const [left, right] = sides(before.x, before.width, handle.x, point.x);
                const [top, bottom] = sides(before.y, before.height, handle.y, point.y);
                Object.assign(rectangle, { x: left, y: top, width: right - left, height: bottom - top });
            };
        }

        moving(region, start) {
            this.editor.select(region);
            const before = { ...region.rectangle };
            return (point) => moveTo(region.rectangle, before.x + point.x - start.x, before.y + point.y - start.y);
        }

        /** A new rectangle; a mere click selects what is there. */
        drawing(start, there) {
            let region = null;
            this.editor.select(there);
            return (point) => {
                const { width, height } = this.element.getBoundingClientRect();
                const distance = Math.hypot((point.x - start.x) * width, (point.y - start.y) * height);
                if (!region && distance < REACH.mouse) return;
                region ??= this.editor.add({ rectangle: { ...start, width: LEAST, height: LEAST } });
                const [left, right] = ordered(start.x, point.x);
                const [top, bottom] = ordered(start.y, point.y);
                Object.assign(region.rectangle, { x: left, y: top, width: right - left, height: bottom - top });
            };
        }

        handleAt(point, pointerType) {
            const rectangle = this.editor.selected?.rectangle;
            if (!rectangle) return null;
            const { width, height } = this.element.getBoundingClientRect();
            const distance = (handle) => {
                const at = on(rectangle, handle);
                return Math.hypot((at.x - point.x) * width, (at.y - point.y) * height);
            };
            const nearest = HANDLES.reduce((best, handle) => (distance(handle) < distance(best) ? handle : best));
            return distance(nearest) <= (REACH[pointerType] ?? REACH.mouse) ? nearest : null;
        }

        /** The region at a point: the selected one, else the topmost, cells last. */
        regionAt(point) {
            const covers = (region) => (region.mask ? region.mask.covers(point) : isIn(boxOf(region), point));
            const { regions, selected } = this.editor;
            const drawn = regions.filter((region) => region.rectangle || region.mask);
            const cells = regions.filter((region) => region.cell);
            const inOrder = [...(selected?.rectangle ? [selected] : []), ...drawn.reverse(), ...cells];
            return inOrder.find(covers) ?? null;
        }

        cursorAt(point, pointerType) {
            if (this.editor.selected?.mask) return "none"; // the brush is drawn
            const handle = this.handleAt(point, pointerType);
            if (!handle) return this.regionAt(point)?.rectangle ? "move" : "crosshair";
            if (handle.x === 0.5) return "ns-resize";
            if (handle.y === 0.5) return "ew-resize";
            return handle.x === handle.y ? "nwse-resize" : "nesw-resize";
        }

        // ---- keyboard

        key(event) {
            const { selected } = this.editor;
            const arrow = ARROWS[event.key];
            if (arrow && selected?.rectangle) this.arrow(selected.rectangle, arrow, event.shiftKey);
            else if (arrow && selected?.mask) this.moveBrush(arrow);
            else if (event.key === " " && selected?.mask) this.brushFrom(this.brushAt(), selected.mask)(this.brushAt());
            else if (event.key === "Delete" && isDrawn(selected)) this.editor.remove(selected);
            else if (event.key === "Escape" && selected) this.editor.select(null);
            else return;
            event.preventDefault();
            event.stopPropagation(); // the host has hotkeys of its own, such as Escape to interrupt
            this.editor.commit();
        }

        arrow(rectangle, [across, down], resizes) {
            const { x, y, width, height } = rectangle;
            if (!resizes) {
                moveTo(rectangle, x + across * STEP, y + down * STEP);
                return;
            }
            rectangle.width = Math.min(Math.max(width + across * STEP, LEAST), 1 - x);
            rectangle.height = Math.min(Math.max(height + down * STEP, LEAST), 1 - y);
        }

        moveBrush([across, down]) {
            const { x, y } = this.brushAt();
            const within = (fraction) => Math.min(Math.max(fraction, 0), 1);
            this.pointer = { x: within(x + 2 * across * STEP), y: within(y + 2 * down * STEP) };
        }

        brushAt() {
            return this.pointer ?? { x: 0.5, y: 0.5 };
        }

        // ---- drawing

        draw() {
            const { clientWidth: width, clientHeight: height } = this.element;
            if (!width) return; // the accordion is closed
            const density = window.devicePixelRatio || 1;
            this.element.width = Math.round(width * density);
            this.element.height = Math.round(height * density);
            const context = this.element.getContext("2d");
            context.scale(density, density);
            this.backdrop.draw(context, width, height);
            const { regions, selected } = this.editor;
            const placed = regions.filter(boxOf);
            for (const region of placed) this.drawRegion(context, region, width, height);
            for (const region of placed) this.drawLabel(context, region, width, height);
            if (selected?.rectangle) drawHandles(context, selected, width, height);
            if (selected?.mask && this.pointer) this.drawBrush(context, width, height);
        }

        drawRegion(context, region, width, height) {
            const isSelected = region === this.editor.selected;
            const box = boxOf(region);
            const [left, top, wide, high] = [box.x * width, box.y * height, box.width * width, box.height * height];
            context.save();
            context.globalAlpha = isSelected ? 0.5 : 0.35;
            context.fillStyle = region.colour;
            const soft = (this.editor.featherOf(region) * width) / this.backdrop.width;
            // Not in all browsers, which then show hard edges; and not scaled as the rest is.
            if (soft) context.filter = `blur(${SIGMA * soft * window.devicePixelRatio}px)`;
            if (region.mask) context.drawImage(region.mask.inColour(region.colour), 0, 0, width, height);
            else if (region.mix || region.rectangle) fillBox(context, left, top, wide, high, { width, height, soft });
            context.restore();
            if (region.mask) return;
            context.strokeStyle = region.colour;
            context.lineWidth = isSelected ? 3 : 1.5;
            context.setLineDash(region.cell ? [6, 4] : []);
            context.strokeRect(left, top, wide, high);
            context.setLineDash([]);
        }

        drawLabel(context, region, width, height) {
            const box = boxOf(region);
            const [left, top] = [box.x * width, box.y * height];
            const room = Math.max(box.width * width, LABEL_WIDTH) - 2 * LABEL_PADDING;
            let text = region.mix ? this.editor.nameOf(region) : `${this.editor.numberOf(region)}`;
            context.font = "600 12px sans-serif";
            while (text.length > 2 && context.measureText(text).width > room) text = `${text.slice(0, -2)}…`;
            context.fillStyle = region.colour;
            context.fillRect(left, top, context.measureText(text).width + 2 * LABEL_PADDING, 18);
            context.fillStyle = "#fff";
            context.fillText(text, left + LABEL_PADDING, top + 13);
        }

        drawBrush(context, width, height) {
            const { size, erases } = this.editor.brush;
            const [x, y] = [this.pointer.x * width, this.pointer.y * height];
            const radius = (size * Math.max(width, height)) / 2;
            // Dark and light, so that it is seen on any picture.
            for (const [colour, lineWidth] of [["#000a", 3], ["#fff", 1.5]]) {
                context.strokeStyle = colour;
                context.lineWidth = lineWidth;
                context.setLineDash(erases ? [4, 4] : []);
                context.beginPath();
                context.arc(x, y, radius, 0, 2 * Math.PI);
                context.stroke();
            }
            context.setLineDash([]);
        }
    }

    function snapped(pixels, length) {
        if (pixels < SNAP) return 0;
        return pixels > length - SNAP ? 1 : pixels / length;
    }

    function boxOf(region) {
        return region.rectangle ?? region.cell ?? region.mask?.box ?? null;
    }

    function isDrawn(region) {
        return Boolean(region?.rectangle || region?.mask);
    }

    function isIn(box, { x, y }) {
        return box && x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height;
    }

    /** The point of a rectangle at a fraction of its sides. */
    function on(rectangle, { x, y }) {
        return { x: rectangle.x + x * rectangle.width, y: rectangle.y + y * rectangle.height };
    }

    function ordered(one, other) {
        return one < other ? [one, Math.max(other, one + LEAST)] : [Math.min(other, one - LEAST), one];
    }

    /** Both ends of a side of which one, 0 or 1, is dragged; 0.5 drags neither. */
    function sides(start, length, dragged, to) {
        if (dragged === 0.5) return [start, start + length];
        return ordered(dragged === 1 ? start : start + length, to);
    }

    function moveTo(rectangle, x, y) {
        rectangle.x = Math.min(Math.max(x, 0), 1 - rectangle.width);
        rectangle.y = Math.min(Math.max(y, 0), 1 - rectangle.height);
    }

    /** Fills a box, and beyond the picture where it touches its edge: only inner borders are soft. */
    function fillBox(context, left, top, wide, high, { width, height, soft }) {
        const [right, bottom] = [left + wide, top + high];
        const from = [left < 1 ? -2 * soft : left, top < 1 ? -2 * soft : top];
        const to = [right > width - 1 ? width + 2 * soft : right, bottom > height - 1 ? height + 2 * soft : bottom];
        context.fillRect(...from, to[0] - from[0], to[1] - from[1]);
    }

    function drawHandles(context, { rectangle, colour }, width, height) {
        for (const handle of HANDLES) {
            const { x, y } = on(rectangle, handle);
            const box = [x * width - HANDLE, y * height - HANDLE, 2 * HANDLE, 2 * HANDLE];
            context.fillStyle = "#fff";
            context.fillRect(...box);
            context.strokeStyle = colour;
            context.lineWidth = 2;
            context.strokeRect(...box);
        }
    }

    Object.assign(dmm, { RegionCanvas });
})();
