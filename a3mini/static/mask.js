// The mask explorer: tokens in groups, and both masks.
import { contentSees, follow, frame, groupColours, h, ink, put, querySees, relabel, roving, shown } from "./common.js";

const STREAMS = [
  ["content", "Content mask: own and earlier groups", contentSees],
  ["query", "Query mask: earlier groups only", querySees],
];

function render({ model, el }) {
  return frame({ model, el }, "Mask explorer", (body, say) => {
    const tokens = model.get("tokens");
    const strip = h("div", { class: "a3-tokens", role: "toolbar", "aria-label": "Tokens and their groups" });
    const masks = h("div", { class: "a3-row" });
    body.append(strip, masks);
    const refresh = roving(strip, "button");

    const move = (position, by) => {
      const groups = [...model.get("group_ids")];
      groups[position] = Math.max(0, groups[position] + by);
      put(model, { group_ids: relabel(groups) });
      say(`${shown(tokens[position])}: group ${model.get("group_ids")[position]}`);
    };

    return follow(model, ["group_ids"], () => {
      const groups = model.get("group_ids");
      const colours = groupColours(groups);
      const focused = [...strip.children].indexOf(document.activeElement);
      strip.replaceChildren(
        ...tokens.map((token, i) =>
          h(
            "button",
            {
              type: "button",
              class: "a3-token",
              style: `--group: ${colours[i]}; --group-ink: ${ink(colours[i])}`,
              onclick: () => move(i, 1),
              onkeydown: (event) => {
                const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
                if (by) (event.preventDefault(), move(i, by));
              },
            },
            shown(token),
            h("small", {}, groups[i] === 0 ? "given" : String(groups[i])),
          ),
        ),
      );
      refresh();
      if (focused >= 0) strip.children[focused].focus();
      masks.replaceChildren(
        ...STREAMS.map(([name, caption, sees]) =>
          h(
            "div",
            { class: "a3-scroll" },
            h(
              "table",
              { class: "a3-matrix", "data-mask": name },
              h("caption", {}, caption),
              h("thead", {}, h("tr", {}, h("td", {}), tokens.map((t) => h("th", { scope: "col" }, h("span", {}, shown(t)))))),
              h(
                "tbody",
                {},
                tokens.map((token, i) =>
                  h(
                    "tr",
                    {},
                    h("th", { scope: "row" }, shown(token)),
                    tokens.map((_, j) => {
                      const seen = sees(groups, i, j);
                      return h(
                        "td",
                        {
                          "data-seen": String(seen),
                          style: `--fill: ${seen ? colours[j] : "var(--a3-hidden)"}; --fill-ink: ${ink(colours[j])}`,
                        },
                        seen ? String(groups[j]) : "",
                      );
                    }),
                  ),
                ),
              ),
            ),
          ),
        ),
      );
    });
  });
}

export default { render };
