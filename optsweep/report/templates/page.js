"use strict";
(() => {
  const table = document.getElementById("all-cells");
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
  };
  // Numbers come before words, and what is not known stays last in both directions.
  const compare = (a, b, sign) => {
    if (a === "–" || b === "–") return (a === "–") - (b === "–");
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    if (typeof a === typeof b) return sign * a.localeCompare(b, document.documentElement.lang, { numeric: true });
    return sign * (typeof a === "number" ? -1 : 1);
  };
  headings.forEach((heading, column) => {
    heading.firstElementChild.addEventListener("click", () => {
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => [key(row, column), row]);
      rows.sort(([a], [b]) => compare(a, b, sign));
      body.append(...rows.map(([, row]) => row));
    });
  });

  const filter = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const narrow = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      count += !row.hidden;
    }
    shown.textContent = shown.dataset.told.replace("{n}", count).replace("{total}", body.rows.length);
  };
  filter.addEventListener("input", narrow);
  narrow();

  const theme = document.getElementById("theme");
  const dark = () => (document.documentElement.dataset.theme
    ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => { theme.textContent = dark() ? theme.dataset.light : theme.dataset.dark; };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    name();
  });
  theme.hidden = false;
  name();

  const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) links.get(entry.target.id)?.classList.toggle("here", entry.isIntersecting);
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main section[id]").forEach((section) => watcher.observe(section));

  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
  });
})();
