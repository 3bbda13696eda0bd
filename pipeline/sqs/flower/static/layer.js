// On every page: reloads what asks for it, and gives cut texts in the list of tasks their whole text as a title.
(function () {
    "use strict";

    const reloading = document.querySelector("[data-refresh-s]");
    if (reloading !== null && Number(reloading.dataset.refreshS) > 0) {
        const timer = setTimeout(function () { location.reload(); }, Number(reloading.dataset.refreshS) * 1000);
        // A reload would cancel the way to a page that takes a while.
        window.addEventListener("beforeunload", function () { clearTimeout(timer); });
    }

    const table = document.getElementById("tasks-table");
    if (table === null) {
        return;
    }
    const headings = [...table.querySelectorAll("thead th")].map(each => each.dataset.column);

    // DataTables fills the body after each request.
    new MutationObserver(function () {
        for (const row of table.tBodies[0].rows) {
            [...row.cells].forEach(function (cell, place) {
                if (cell.classList.contains("overflow-auto")) {
                    cell.title = cell.textContent;
                    cell.classList.toggle("narrow-column", headings[place] === "kwargs");
                }
            });
        }
    }).observe(table.tBodies[0], {childList: true});
}());
