// What a page must be like for people who use a keyboard, a screen reader, a
// small window or bad eyes. An expression that yields a list of [rule, detail].
(() => {
  const found = [];
  const report = (rule, detail) => found.push([rule, detail]);
  const describe = (e) => e.outerHTML.replace(/\s+/g, " ").slice(0, 120);
  const visible = (e) => {
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    return style.visibility === "visible" && box.width > 0 && box.height > 0;
  };
  const text = (e) => (e ? e.textContent : "").trim();
  const named = (e) => {
    const by = (e.getAttribute("aria-labelledby") || "").split(/\s+/).filter(Boolean);
    return (e.getAttribute("aria-label") || "").trim() !== "" ||
      by.some((id) => text(document.getElementById(id)) !== "") ||
      [...(e.labels || [])].some((l) => text(l) !== "");
  };

  if (!document.documentElement.lang) report("lang", "<html> has no lang");
  if (!document.title.trim()) report("title", "the page has no title");
  const heads = [...document.querySelectorAll("h1")].filter(visible);
  if (heads.length !== 1) report("h1", heads.length + " visible h1");
  if (document.querySelectorAll("main").length !== 1) report("main", "want one main landmark");

  for (const e of document.querySelectorAll("input, select, textarea")) {
    if (e.type !== "hidden" && e.type !== "submit" && e.type !== "button" && !named(e)) report("label", describe(e));
  }
  for (const e of document.querySelectorAll("button, a[href], input[type=submit], input[type=button]")) {
    const alt = [...e.querySelectorAll("img")].some((i) => i.alt.trim() !== "");
    if (!named(e) && text(e) === "" && !alt && !(e.value || "").trim()) report("name", describe(e));
  }
  for (const e of document.querySelectorAll("img:not([alt])")) report("alt", describe(e));
  for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) report("tabindex", describe(e));
  for (const e of document.querySelectorAll("[aria-describedby], [aria-labelledby], label[for]")) {
    for (const name of ["aria-describedby", "aria-labelledby", "for"]) {
      for (const id of (e.getAttribute(name) || "").split(/\s+/).filter(Boolean)) {
        if (!document.getElementById(id)) report("reference", name + "=" + id + ": " + describe(e));
      }
    }
  }
  const ids = new Set();
  for (const e of document.querySelectorAll("[id]")) {
    if (ids.has(e.id)) report("id", "twice: " + e.id);
    ids.add(e.id);
  }
  for (const e of document.querySelectorAll("[aria-invalid=true]")) {
    const by = (e.getAttribute("aria-describedby") || "").split(/\s+/).map((id) => document.getElementById(id));
    if (!by.some((d) => d && (d.closest("[role=alert]")))) report("error", describe(e));
  }

  // WCAG 2.2, 2.5.8: targets of 24 by 24 CSS pixels; links in a line of text
  // are exempt.
  for (const e of document.querySelectorAll("button, input, select, textarea, a[href]")) {
    if (e.type === "hidden" || !visible(e) || getComputedStyle(e).display === "inline") continue;
    const box = e.getBoundingClientRect();
    if (box.width < 23.99 || box.height < 23.99) report("target", Math.round(box.width) + "x" + Math.round(box.height) + ": " + describe(e));
  }
  // 1.4.10: nothing to scroll sideways.
  const root = document.scrollingElement;
  if (root.scrollWidth > root.clientWidth) report("overflow", root.scrollWidth + " px wide in " + root.clientWidth);

  // 1.4.3: contrast. A colour is read by painting it, which also resolves
  // every notation.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const d = canvas.getImageData(0, 0, 1, 1).data;
    return [d[0], d[1], d[2], d[3] / 255];
  };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const ground = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c[3] > 0) layers.push(c);
      if (c[3] === 1) break;
    }
    return layers.reverse().reduce((below, c) => over(c, below), rgba("Canvas"));
  };
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const check = (e, what) => {
    const style = getComputedStyle(e), below = ground(e), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = contrast(over(rgba(style.color), below), below);
    if (ratio < (large ? 3 : 4.5)) report("contrast", ratio.toFixed(2) + ": " + what);
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    if (n.data.trim() && visible(n.parentElement)) check(n.parentElement, n.data.trim().slice(0, 60));
  }
  for (const e of document.querySelectorAll("input")) {
    if (e.type !== "hidden" && e.type !== "radio" && e.type !== "checkbox" && visible(e)) check(e, describe(e));
  }
  // 1.4.11: the edge of a field against what is around it.
  for (const e of document.querySelectorAll("input[type=text], input[type=password]")) {
    const style = getComputedStyle(e), around = ground(e.parentElement);
    if (style.borderTopStyle === "none" || contrast(over(rgba(style.borderTopColor), around), around) < 3) report("edge", describe(e));
  }
  return found;
})()
