/* Keeps the dashboard fresh: fetches the same page and carries over what differs, in place. So the
   scroll position, the focus and open details stay. It waits while the tab is hidden, while text
   is selected or a field is in use, and while the person has paused it. */
(function () {
    "use strict";

    const live = document.getElementById("defer-live");
    const page = document.getElementById("defer-dashboard");
    if (!live || !page) {
        return;
    }
    const words = live.dataset;
    const state = live.querySelector(".defer-live-state");
    const button = live.querySelector("button");
    const pace = Number(words.seconds) * 1000;
    const slowest = 60000;
    let timer = null;
    let failures = 0;
    let isPaused = false;
    let isFetching = false;

    function say(kind) {
        const text = words[kind];
        if (state.textContent !== text) {
            state.textContent = text;
        }
        live.dataset.state = kind;
    }

    function plan(wait) {
        clearTimeout(timer);
        timer = isPaused || document.visibilityState === "hidden" ? null : setTimeout(refresh, wait);
    }

    /* Whether the person is in the middle of something that a change would spoil. */
    function isInUse() {
        const selection = document.getSelection();
        if (selection && !selection.isCollapsed && page.contains(selection.anchorNode)) {
            return true;
        }
        const focused = document.activeElement;
        return Boolean(focused && focused.matches("input, select, textarea, [contenteditable]"));
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
                say("live");
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

    /* Return whether it was the dashboard that came. */
    function carryOver(found) {
        const fresh = found.getElementById("defer-dashboard");
        const updated = found.getElementById("defer-updated");
        if (!fresh || !updated) {
            return false;
        }
        const focused = document.activeElement;
        morph(page, fresh);
        if (focused !== document.activeElement && page.contains(focused)) {
            focused.focus({preventScroll: true}); /* it was in a row that moved */
        }
        morph(document.getElementById("defer-updated"), updated);
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
        if (document.visibilityState === "hidden" || isPaused) {
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
