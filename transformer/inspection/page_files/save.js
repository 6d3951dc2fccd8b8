// "Save as SVG": write a picture on the page to a file

const STYLES = [
  ..."fill stroke stroke-width stroke-opacity stroke-dasharray stroke-linecap stroke-linejoin".split(" "),
  ..."paint-order opacity font-family font-size font-weight text-anchor text-decoration".split(" "),
];

/** Implements the part of a canvas context that `paintMatrix` uses, but draws into an SVG element. */
class SvgContext {
  lineWidth = 1;
  dashes = [];

  constructor(svg) {
    this.node = svg;
  }

  save() {
    const group = shape("g");
    this.node.append(group);
    this.node = group;
  }

  restore() {
    this.node = this.node.parentNode;
  }

  translate(x, y) {
    this.transform(`translate(${x} ${y})`);
  }

  rotate(angle) {
    this.transform(`rotate(${(angle * 180) / Math.PI})`);
  }

  transform(step) {
    this.node.setAttribute("transform", `${this.node.getAttribute("transform") ?? ""} ${step}`.trim());
  }

  setLineDash(dashes) {
    this.dashes = dashes;
  }

  strokeRect(x, y, width, height) {
    const line = { stroke: this.strokeStyle, "stroke-width": this.lineWidth };
    if (this.dashes.length) line["stroke-dasharray"] = this.dashes.join(" ");
    this.node.append(shape("rect", { x, y, width, height, fill: "none", ...line }));
  }

  fillText(text, x, y) {
    const [, weight, size, family] = this.font.match(/^(\d+ )?([\d.]+)px (.*)$/);
    const font = { "font-family": family, "font-size": size, "font-weight": (weight ?? "400").trim() };
    const anchor = { left: "start", center: "middle", right: "end" }[this.textAlign];
    const place = { x, y: y + 0.35 * size, "text-anchor": anchor }; // many programs support no other baseline
    this.node.append(shape("text", { ...place, fill: this.fillStyle, ...font }, text));
  }

  /** Draw one rectangle for each pixel. */
  drawImage(image, x, y, width, height) {
    const { data: pixels } = image.getContext("2d").getImageData(0, 0, image.width, image.height);
    const [across, down] = [width / image.width, height / image.height];
    const group = shape("g", { class: "cells" });
    for (let place = 0; place < image.width * image.height; place++) {
      const corner = { x: x + (place % image.width) * across, y: y + Math.floor(place / image.width) * down };
      const fill = `rgb(${pixels.slice(4 * place, 4 * place + 3).join(",")})`;
      group.append(shape("rect", { ...corner, width: across, height: down, fill }));
    }
    this.node.append(group);
  }
}

/** An empty picture with the page's background colour. */
function emptyPicture(width, height) {
  const background = shape("rect", { width, height, fill: css("--paper") });
  return shape("svg", { width, height, viewBox: `0 0 ${width} ${height}` }, background);
}

function matrixPicture() {
  const cells = shownMatrix();
  const svg = emptyPicture(...matrixSize());
  paintMatrix(new SvgContext(svg), cells);
  return svg;
}

/** Copy a picture that is already SVG, and write the styles of the page's style sheet into the copy. */
function copiedPicture(svg) {
  const copy = emptyPicture(svg.getAttribute("width"), svg.getAttribute("height"));
  copy.append(...[...svg.children].map((child) => child.cloneNode(true)));
  const copies = [...copy.querySelectorAll("*")].slice(1); // without the background
  svg.querySelectorAll("*").forEach((node, place) => {
    const style = getComputedStyle(node);
    for (const name of STYLES) copies[place].setAttribute(name, style.getPropertyValue(name));
  });
  return copy;
}

function save(svg, name) {
  const file = new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" });
  const link = element("a", { href: URL.createObjectURL(file), download: `${name}.svg` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the browser may still be reading the file
}

function listenToSaving() {
  const head = () => `${state.kind}-${state.layer}.${state.head}`;
  $("save-matrix").addEventListener("click", () => save(matrixPicture(), `matrix-${head()}`));
  $("save-lines").addEventListener("click", () => save(copiedPicture($("links")), `lines-${head()}`));
  $("save-tree").addEventListener("click", () => save(copiedPicture($("tree")), "search"));
}
