// What only the browser knows, and what must not wait for the server.
(function () {
  "use strict";
  const root = document.documentElement;
  const wanted = () => {
    try { return localStorage.getItem("prunefront-theme"); } catch { return null; }
  };
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  root.dataset.theme = wanted() || (prefersDark.matches ? "dark" : "light");

  let webgl = null;
  const probe = () => {
    try {
      const context = document.createElement("canvas").getContext("webgl");
      if (!context) return false;
      // Browsers allow few contexts at a time: give this one back.
      const loses = context.getExtension("WEBGL_lose_context");
      if (loses) loses.loseContext();
      return true;
    } catch { return false; }
  };

  const int32 = (base64) => new Int32Array(Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0)).buffer);

  // Links in a page, as Dash's own: without loading the page anew, unless a person wants a new tab.
  const go = (event) => {
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    window.dash_clientside.set_props("url", { pathname: event.currentTarget.pathname });
  };
  const cell = (tag, content, isNumber) => {
    const made = document.createElement(tag);
    if (isNumber) made.className = "number";
    if (Array.isArray(content)) {
      const link = made.appendChild(document.createElement("a"));
      [link.textContent, link.href] = content;
      link.addEventListener("click", go);
    } else made.textContent = content;
    return made;
  };

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    prunefront: {
      hasWebGL: () => (webgl === null ? (webgl = probe()) : webgl),
      // Draw as fine as the screen is. Plotly draws twice as fine, which without a graphics card takes long.
      sharpness: (_, config) => ({ ...config, plotGlPixelRatio: Math.min(4, Math.max(1, devicePixelRatio)) }),
      // Which trial was clicked. Numbers of many trials are bytes, in which Dash does not look.
      clicked: (click, figure) => {
        const point = click?.points?.[0];
        if (!point) return window.dash_clientside.no_update;
        const numbers = figure.data[point.curveNumber].customdata;
        return (numbers?.bdata ? int32(numbers.bdata) : numbers)?.[point.pointNumber] ?? window.dash_clientside.no_update;
      },
      // Tables of many rows: as components of Dash, whose work grows with the square of their number, they take seconds.
      table: ({ caption, headers, rows, numbers }) => {
        const table = document.createElement("table");
        table.createCaption().textContent = caption;
        const fill = (section, tag, each) => {
          const row = section.insertRow();
          each.forEach((content, n) => row.append(cell(tag, content, n >= headers.length - numbers)));
        };
        fill(table.createTHead(), "th", headers);
        table.querySelectorAll("th").forEach((head) => { head.scope = "col"; });
        const body = table.createTBody();
        rows.forEach((row) => fill(body, "td", row));
        document.getElementById(window.dash_clientside.callback_context.outputs_list.id).replaceChildren(table);
        return rows.length;
      },
      theme: (clicks) => {
        if (clicks) {
          root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
          try { localStorage.setItem("prunefront-theme", root.dataset.theme); } catch { /* it holds for this page */ }
        }
        return root.dataset.theme;
      },
    },
  });

  // Say when the server or its database is away, and when it is back.
  const banner = document.createElement("div");
  banner.className = "alarm away";
  banner.setAttribute("role", "alert");
  banner.hidden = true;
  const ask = async () => {
    try {
      const answer = await fetch("/api/health", { cache: "no-store" });
      if (answer.ok) { banner.hidden = true; return; }
      const said = await answer.json();
      banner.textContent = answer.status === 401
        ? "This page is no longer let in: open the address that prunefront serve printed."
        : `The database is away: ${said.error}`;
    } catch {
      banner.textContent = "The dashboard's server is away. Searches go on in their runner; this page asks again.";
    }
    banner.hidden = false;
  };
  addEventListener("DOMContentLoaded", () => {
    document.body.prepend(banner);
    setInterval(ask, 5000);
  });
})();
