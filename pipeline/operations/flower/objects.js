// In the list of tasks, and on the page of a task, the object leads to its page.
(function () {
    "use strict";

    const tab = document.querySelector("[data-tab='object']");
    // What the pipeline shows as the arguments of its tasks. A text that was cut ends in an ellipsis.
    const OBJECT = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\/[^]*[^\u2026]$/;

    function link(element) {
        const text = element.textContent;
        if (tab === null || element.querySelector("a") !== null || !OBJECT.test(text)) {
            return;
        }
        const made = document.createElement("a");
        made.href = tab.getAttribute("href") + "?uri=" + encodeURIComponent("s3://" + text);
        made.textContent = text;
        element.replaceChildren(made);
    }

    const table = document.getElementById("tasks-table");
    if (table !== null) {
        const place = [...table.querySelectorAll("thead th")].findIndex(each => each.dataset.column === "args");
        new MutationObserver(function () {
            for (const row of table.tBodies[0].rows) {
                if (place >= 0 && row.cells.length > place) {
                    link(row.cells[place]);
                }
            }
        }).observe(table.tBodies[0], {childList: true});
    }
    for (const heading of document.querySelectorAll("#task-page dt")) {
        if (heading.textContent.trim() === "Arguments") {
            link(heading.parentElement.querySelector("code"));
        }
    }
}());
