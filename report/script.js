// Sorting and filtering of the report's tables. Without it everything is there to be read, in the order as written.
"use strict";

const FILTERED_FROM = 9; // rows; a shorter table is seen at a glance
const AT_ONCE = 500; // rows; a browser takes seconds to lay out thousands
const DIRECTIONS = ["none", "ascending", "descending"];
const collator = new Intl.Collator("en", { numeric: true });

for (const box of document.querySelectorAll(".table-scroll")) {
  const table = box.querySelector("table");
  // One tbody is one entry: a row with those that belong to it.
  const entries = Array.from(table.tBodies);
  const update = entries.length >= FILTERED_FROM ? makeFilterable(box, table, entries) : () => {};
  if (entries.length > 1) makeSortable(table, entries, update);
}

addEventListener("hashchange", unfold);
unfold();

/** Open the folded part to which the address leads. */
function unfold() {
  const part = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = part?.querySelector("details");
  if (folded) folded.open = true;
}

/** Put a button into each column's header that sorts by it: ascending, descending, and back as it was. */
function makeSortable(table, entries, update) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    const order = document.createElement("span"); // the style draws the arrow
    order.className = "order";
    order.ariaHidden = "true";
    button.firstChild.after(order);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort") ?? "none";
      const next = DIRECTIONS[(DIRECTIONS.indexOf(now) + 1) % DIRECTIONS.length];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (next !== "none") head.setAttribute("aria-sort", next);
      // Moving thousands of rows is quick only while the table is out of the page.
      const place = document.createComment("");
      table.replaceWith(place);
      table.append(...(next === "none" ? entries : sorted(entries, column, next)));
      update();
      place.replaceWith(table);
      button.focus({ preventScroll: true });
    });
  });
}

/** The entries in order of their first row's cell in a column; gaps come last either way, equals stay as they were. */
function sorted(entries, column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = entries.map((entry) => [key(entry.rows[0].cells[column]), entry]);
  const compare = ([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b));
  };
  return keyed.sort(compare).map(([, entry]) => entry);
}

/** What a cell is sorted by: its number, else its text; null for a gap. */
function key(cell) {
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  return cell.classList.contains("gap") ? null : cell.textContent.trim() || null;
}

/**
 * Put a field above the table: of the entries, those are shown in whose texts every word of it occurs, the first
 * AT_ONCE of them until all are asked for. Returns what brings this up to date when their order has changed.
 */
function makeFilterable(box, table, entries) {
  const line = document.createElement("p");
  line.className = "filter";
  const label = document.createElement("label");
  const field = document.createElement("input");
  field.type = "search";
  field.setAttribute("aria-label", `Filter rows: ${box.getAttribute("aria-label")}`);
  label.append("Filter rows ", field);
  const count = document.createElement("span");
  count.setAttribute("aria-live", "polite");
  const more = document.createElement("button");
  more.type = "button";
  more.textContent = "Show all";
  line.append(label, count, more);
  box.before(line);

  const texts = new Map(); // read when first needed: a long list takes a moment
  const text = (entry) => {
    if (!texts.has(entry)) {
      const cells = Array.from(entry.querySelectorAll("th, td.text"), (cell) => cell.textContent);
      texts.set(entry, cells.join(" ").toLowerCase());
    }
    return texts.get(entry);
  };
  let most = AT_ONCE;
  const update = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const entry of table.tBodies) {
      const wanted = words.every((word) => text(entry).includes(word));
      found += wanted;
      entry.hidden = !wanted || found > most;
    }
    const of = words.length ? `${found} of ${entries.length} rows` : `${entries.length} rows`;
    count.textContent = found > most ? `${of}, the first ${most} shown` : of;
    more.hidden = found <= most;
  };
  field.addEventListener("input", update);
  more.addEventListener("click", () => {
    most = Infinity;
    update();
    field.focus();
  });
  update();
  return update;
}
