'use strict';
// Sorting and filtering of tables, and drawing of charts.
(function () {
  function values(row, index, numeric) {
    const text = row.cells[index].dataset.value;
    if (!numeric) return text.toLowerCase();
    return text === '' ? NaN : Number(text);
  }

  function compare(a, b, numeric) {
    if (numeric) return a - b;
    return a.localeCompare(b, undefined, {numeric: true});
  }

  function sortBy(table, heading) {
    const index = heading.cellIndex;
    const numeric = heading.dataset.kind === 'number';
    // First click: numbers in descending order, names in ascending order.
    const first = numeric ? 'descending' : 'ascending';
    const second = numeric ? 'ascending' : 'descending';
    const order = heading.getAttribute('aria-sort') === first ? second : first;
    for (const other of table.tHead.rows[0].cells) {
      other.removeAttribute('aria-sort');
    }
    heading.setAttribute('aria-sort', order);
    const sign = order === 'ascending' ? 1 : -1;
    const body = table.tBodies[0];
    const rows = Array.from(body.rows).map(
        (row) => [row, values(row, index, numeric)]);
    // A row of all classes stays on top, undefined numbers at the end.
    const rank = ([row, value]) =>
        row.classList.contains('total') ? 0 : value !== value ? 2 : 1;
    rows.sort((a, b) => {
      const difference = rank(a) - rank(b);
      if (difference || rank(a) !== 1) return difference;
      return sign * compare(a[1], b[1], numeric);
    });
    body.append(...rows.map(([row]) => row));
  }

  for (const table of document.querySelectorAll('table.sortable')) {
    for (const heading of table.tHead.rows[0].cells) {
      heading.querySelector('button').addEventListener(
          'click', () => sortBy(table, heading));
    }
  }

  for (const input of document.querySelectorAll('input[data-table]')) {
    const rows = Array.from(
        document.getElementById(input.dataset.table).tBodies[0].rows);
    const output = input.parentElement.querySelector('output');
    input.addEventListener('input', () => {
      const wanted = input.value.trim().toLowerCase();
      let shown = 0;
      for (const row of rows) {
        row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
        shown += !row.hidden;
      }
      output.textContent = wanted ? `${shown} of ${rows.length} rows` : '';
    });
  }

  const views = new Map();
  function draw(figure) {
    views.set(figure.id, []);
    for (const plot of figure.querySelectorAll('.plot')) {
      const spec = JSON.parse(plot.nextElementSibling.textContent);
      window.vegaEmbed(plot, spec, {
        actions: false, ast: true, renderer: 'svg', mode: 'vega-lite',
      }).then(({view}) => {
        views.get(figure.id).push(view);
        plot.dataset.drawn = 'true';
      });
    }
  }
  document.querySelectorAll('figure.chart').forEach(draw);

  for (const select of document.querySelectorAll('select[data-figure]')) {
    select.addEventListener('change', () => {
      for (const view of views.get(select.dataset.figure)) {
        view.signal('chosen', Number(select.value)).runAsync();
      }
    });
  }
})();
