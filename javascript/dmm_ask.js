// What our pages ask the server, and why it refuses.

var dmm = dmm || {};

(function () {
    "use strict";

    const ASK_AGAIN_AFTER = 5000; // milliseconds, where there was no answer: a server starts in some

    /**
     * The JSON that `./dmm/<path>` answers; a body makes it a request that does something.
     *
     * Throws an Error to be shown, whose `field` names what in the body it is about, if the server says.
     */
    async function ask(path, body, method = body ? "POST" : "GET") {
        const json = body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
        const answer = await fetch(`./dmm/${path}`, { method, ...json }).catch((error) => {
            throw new Error(`The WebUI does not answer: ${error.message}`);
        });
        const said = await answer.json().catch(() => ({})); // a failure of the host's own is plain text
        if (answer.ok) return said;
        const message = said.message || said.detail || said.errors || answer.statusText;
        throw Object.assign(new Error(message), { field: said.field });
    }

    Object.assign(dmm, { ask, ASK_AGAIN_AFTER });
})();
