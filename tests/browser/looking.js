// What a reader would frown at on a page, as texts: called with the width of the window in CSS pixels.
(width) => {
  const found = [];
  document.querySelectorAll("details").forEach((each) => (each.open = true));
  if (document.documentElement.scrollWidth > width) {
    const wide = [...document.body.querySelectorAll("*")].filter((each) =>
      each.getBoundingClientRect().right > width + 0.5 && !each.closest(".wide"));
    found.push(`it is ${document.documentElement.scrollWidth} wide: ${wide[0]?.outerHTML.slice(0, 100)}`);
  }
  const parsed = (color) => {
    const [red, green, blue, alpha = 1] = color.match(/[\d.]+/g).map(Number);
    return { parts: [red, green, blue], alpha };
  };
  const behind = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) layers.push(parsed(getComputedStyle(each).backgroundColor));
    return layers.reverse().reduce(over, [255, 255, 255]);
  };
  const over = (below, { parts, alpha }) => below.map((part, at) => part * (1 - alpha) + parts[at] * alpha);
  const luminance = (parts) => parts.map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, style = getComputedStyle(element);
    if (!walker.currentNode.data.trim() || style.visibility === "hidden" || !element.getClientRects().length) continue;
    texts += 1;
    const below = behind(element);
    const ink = over(below, parsed(element instanceof SVGElement ? style.fill : style.color));
    const [dark, light] = [luminance(below), luminance(ink)].sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)}: ${walker.currentNode.data.trim().slice(0, 60)}`);
    const size = parseFloat(style.fontSize) * (element instanceof SVGElement ? element.getScreenCTM().a : 1);
    if (size < 9) found.push(`${size.toFixed(1)} px: ${walker.currentNode.data.trim().slice(0, 60)}`);
  }
  if (!texts) found.push("there is no text");
  return found;
}
