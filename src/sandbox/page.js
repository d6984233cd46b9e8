'use strict';
let last = 0;
const rows = document.getElementById('log');
function show(request) {
  if (last === 0) rows.replaceChildren();
  last = request.number;
  const row = rows.insertRow(0);
  const time = new Date(request.time).toLocaleTimeString();
  const status = request.status === null ? 'none' : request.status;
  const cells = [request.number, time, request.method + ' ' + request.route, request.account, status, request.took_ms,
    request.answer];
  for (const text of cells) row.insertCell().textContent = text === null ? '' : text;
  if (request.status === null || request.status >= 400) row.className = 'failed';
  while (rows.rows.length > 200) rows.deleteRow(-1);
}
async function update() {
  try {
    const log = await (await fetch('sandbox/log?after=' + last)).json();
    // The sandbox was started again.
    if (log.last < last) last = 0;
    else log.requests.forEach(show);
    const clock = await (await fetch('sandbox/clock')).json();
    document.getElementById('clock').textContent = clock.now;
  } catch {
    document.getElementById('clock').textContent = 'The sandbox does not respond.';
  }
  setTimeout(update, 1000);
}
update();
