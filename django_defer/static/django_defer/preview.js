/* Shows in a form, while a person types, what the answer would lead to and what is wrong with it:
   what its Preview button shows, without a page load. The form is posted as that button does it,
   and of what comes back only errors and preview are carried over; the fields stay as they are. */
(function () {
    "use strict";

    const patience = 250; /* ms without a key until the server is asked */
    const silence = 1000; /* ms after its answer, and no key, until it is read aloud */

    function watch(preview) {
        const form = preview.closest("form");
        const status = form.querySelector("[role=status]");
        let timer = null;
        let speech = null;
        let asked = null;
        let isOut = false;

        /* Whatever is under way is about what stood in the fields before. */
        function drop() {
            clearTimeout(timer);
            clearTimeout(speech);
            if (asked) {
                asked.abort();
            }
            asked = null;
            preview.removeAttribute("aria-busy");
        }

        async function ask() {
            const mine = new AbortController();
            asked = mine;
            const answers = new FormData(form);
            answers.set("preview", "live");
            let show = () => say(preview.dataset.lost);
            try {
                const response = await fetch(form.getAttribute("action"), {
                    method: "POST",
                    body: answers,
                    redirect: "manual", /* to the login, or away from a row that is gone */
                    signal: mine.signal,
                });
                if (response.type === "opaqueredirect" || response.status === 403) {
                    isOut = true;
                    show = () => say(preview.dataset.out);
                } else if (response.ok) {
                    const text = await response.text();
                    const found = new DOMParser().parseFromString(text, "text/html");
                    show = () => carryOver(found);
                }
            } catch {
                /* Not reached: that is said, and the next key tries again. */
            }
            if (asked === mine) {
                asked = null;
                preview.removeAttribute("aria-busy");
                const said = show();
                speech = setTimeout(() => { status.textContent = said; }, silence);
            }
        }

        /* Take errors and preview from what came; return what is read aloud. */
        function carryOver(found) {
            const errors = [...found.querySelectorAll(".errorlist")];
            for (const fresh of found.querySelectorAll(".defer-field")) {
                const input = fresh.querySelector("[name]");
                takeErrors(form.elements.namedItem(input.name), input, fresh);
            }
            preview.replaceChildren(...found.querySelector(".defer-preview").childNodes);
            return errors.map(textOf).join(" ") || inWords();
        }

        function takeErrors(field, input, fresh) {
            const old = field.closest(".defer-field");
            const before = old.querySelector(".errorlist");
            const after = fresh.querySelector(".errorlist");
            if (before) {
                before.remove();
            }
            if (after) {
                field.after(after);
            }
            old.classList.toggle("errors", Boolean(after));
            for (const name of ["aria-invalid", "aria-describedby"]) {
                if (input.hasAttribute(name)) {
                    field.setAttribute(name, input.getAttribute(name));
                } else {
                    field.removeAttribute(name);
                }
            }
        }

        /* Return what it means and the first slot: the others are there to be read. */
        function inWords() {
            const first = preview.querySelector("tbody tr");
            const cells = first ? [...first.cells].map(textOf).join(", ") : "";
            const parts = [".defer-text", "h2"].map((part) => textOf(preview.querySelector(part)));
            return [...parts, cells].filter(Boolean).join(" ");
        }

        function say(sentence) {
            const text = document.createElement("p");
            text.textContent = sentence;
            preview.replaceChildren(text);
            return sentence;
        }

        form.addEventListener("input", function () {
            drop();
            if (!isOut) {
                preview.setAttribute("aria-busy", "true");
                timer = setTimeout(ask, patience);
            }
        });
        form.addEventListener("submit", drop);
    }

    function textOf(node) {
        return node ? node.textContent.replace(/\s+/g, " ").trim() : "";
    }

    document.querySelectorAll(".defer-preview").forEach(watch);
})();
