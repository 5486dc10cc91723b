/* Keeps a page fresh, the dashboard or that of a run: fetches the same page and carries over what
   differs, in place. So the scroll position, the focus and open details stay. It waits while the tab
   is hidden, while text is selected, a field is in use, a form is open or the pointer is on a button
   that may change, and while the person has paused it. It ends with what it shows: a page that comes
   without #defer-live will not change any more. */
(function () {
    "use strict";

    const live = document.getElementById("defer-live");
    const page = live && document.getElementById(live.dataset.part);
    if (!page) {
        return;
    }
    const words = live.dataset;
    const state = live.querySelector(".defer-live-state");
    const button = live.querySelector("button");
    let pace = Number(words.seconds) * 1000;
    const slowest = 60000;
    let timer = null;
    let failures = 0;
    let isPaused = false;
    let isFetching = false;
    let isOver = false;

    function say(kind) {
        const text = words[kind];
        if (state.textContent !== text) {
            state.textContent = text;
        }
        live.dataset.state = kind;
    }

    function plan(wait) {
        clearTimeout(timer);
        timer = isPaused || isOver || document.visibilityState === "hidden" ? null : setTimeout(refresh, wait);
    }

    /* Whether the person is in the middle of something that a change would spoil. */
    function isInUse() {
        const selection = document.getSelection();
        if (selection && !selection.isCollapsed && page.contains(selection.anchorNode)) {
            return true;
        }
        if (page.querySelector("details.defer-ask[open], .defer-verbs form:hover")) {
            return true;
        }
        const focused = document.activeElement;
        return Boolean(
            focused && focused.matches("input:not([type=submit]), select, textarea, [contenteditable]")
        );
    }

    async function refresh() {
        if (isFetching) {
            return;
        }
        if (isInUse()) {
            say("waiting");
            plan(1000);
            return;
        }
        const begin = performance.now();
        isFetching = true;
        let wait = pace;
        try {
            const response = await fetch(location.href, {
                headers: {"X-Requested-With": "XMLHttpRequest"},
                cache: "no-store",
                signal: AbortSignal.timeout(30000),
            });
            if (!response.ok && response.status !== 403 && response.status !== 404) {
                throw new Error(String(response.status));
            }
            const text = await response.text();
            failures = 0;
            const found = new DOMParser().parseFromString(text, "text/html");
            if (isPaused) {
                return;
            }
            if (isInUse()) {
                say("waiting");
                wait = 1000;
            } else if (carryOver(found)) {
                say(isOver ? "over" : "live");
                /* A slow server is asked less often: it has other work. */
                wait = Math.min(slowest, Math.max(pace, 10 * (performance.now() - begin)));
            } else {
                say("out");
                wait = slowest;
            }
        } catch {
            failures += 1;
            wait = Math.min(slowest, pace * 2 ** failures);
            if (!isPaused) {
                say("lost");
            }
        } finally {
            isFetching = false;
            plan(wait);
        }
    }

    /* Return whether it was this page that came. */
    function carryOver(found) {
        const fresh = found.getElementById(page.id);
        if (!fresh) {
            return false;
        }
        const updated = found.getElementById("defer-updated");
        isOver = !updated;
        button.hidden = isOver;
        const focused = document.activeElement;
        morph(page, fresh);
        if (focused !== document.activeElement && page.contains(focused)) {
            focused.focus({preventScroll: true}); /* it was in a row that moved */
        }
        if (updated) {
            pace = Number(found.getElementById("defer-live").dataset.seconds) * 1000;
            morph(document.getElementById("defer-updated"), updated);
        }
        return true;
    }

    /* Make `old` equal to `fresh`, keeping every node that may stay. */
    function morph(old, fresh) {
        if (old.isEqualNode(fresh)) {
            return;
        }
        for (const {name} of [...old.attributes]) {
            if (!fresh.hasAttribute(name) && name !== "open") {
                old.removeAttribute(name);
            }
        }
        for (const {name, value} of fresh.attributes) {
            if (old.getAttribute(name) !== value && name !== "open") {
                old.setAttribute(name, value);
            }
        }
        morphChildren(old, fresh);
    }

    function morphChildren(old, fresh) {
        let next = old.firstChild;
        const kept = new Map();
        for (const child of old.children) {
            if (keyOf(child)) {
                kept.set(keyOf(child), child);
            }
        }
        for (const wanted of [...fresh.childNodes]) {
            const same = keyOf(wanted) ? kept.get(keyOf(wanted)) : like(next, wanted);
            if (!same) {
                old.insertBefore(document.importNode(wanted, true), next);
                continue;
            }
            if (same === next) {
                next = next.nextSibling;
            } else {
                /* Not the node itself, which may have the focus, but those before it are moved. */
                while (next && next !== same && !isLater(next, wanted)) {
                    const gone = next;
                    next = next.nextSibling;
                    gone.remove();
                }
                if (next === same) {
                    next = next.nextSibling;
                } else {
                    old.insertBefore(same, next);
                }
            }
            if (same.nodeType === Node.ELEMENT_NODE) {
                morph(same, wanted);
            } else if (same.data !== wanted.data) {
                same.data = wanted.data;
            }
        }
        while (next) {
            const gone = next;
            next = next.nextSibling;
            gone.remove();
        }
    }

    /* Whether a kept node comes after `wanted` in the fresh page: then it must not be removed. */
    function isLater(node, wanted) {
        const key = keyOf(node);
        for (let each = wanted.nextSibling; key && each; each = each.nextSibling) {
            if (keyOf(each) === key) {
                return true;
            }
        }
        return false;
    }

    function keyOf(node) {
        return node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key : "";
    }

    /* Return the node if, without keys, it is one that can become `wanted`. */
    function like(node, wanted) {
        const fits = node && node.nodeName === wanted.nodeName && !keyOf(node);
        return fits ? node : null;
    }

    function pauseOrResume() {
        isPaused = !isPaused;
        button.textContent = isPaused ? words.resume : words.pause;
        say(isPaused ? "paused" : "live");
        if (isPaused) {
            plan(pace);
        } else {
            refresh();
        }
    }

    document.addEventListener("visibilitychange", function () {
        if (document.visibilityState === "hidden" || isPaused || isOver) {
            clearTimeout(timer);
        } else {
            refresh();
        }
    });
    button.addEventListener("click", pauseOrResume);
    button.hidden = false;
    say("live");
    plan(pace);
})();
