// Search in ENTRIES, from a page to its [title, text, anchor (if it is not the title)]:
// all words must occur; those in titles count more. Where that finds little, search in all texts.
const box = document.getElementById("search-box")
const state = document.getElementById("search-state")
const results = document.getElementById("search-results")
const entries = Object.entries(ENTRIES).flatMap(([page, rows]) => rows.map((row) => [page, ...row]))

function score([page, title, text], words) {
  const [name, place, body] = [title.toLowerCase(), page.toLowerCase(), text.toLowerCase()]
  let sum = 0
  for (const word of words) {
    const exact = name === word || name.endsWith("." + word)
    const points = exact ? 20 : name.includes(word) ? 5 : place.includes(word) ? 2 : body.includes(word) ? 1 : 0
    if (!points) return 0
    sum += points
  }
  return sum - name.length / 1000
}

function shown([page, title, text, anchor = title]) {
  const [item, link, place] = ["li", "a", "span"].map((tag) => document.createElement(tag))
  link.href = page + (anchor ? "#" + anchor : "")
  link.textContent = title
  place.className = "meta"
  place.textContent = page.startsWith(title) ? "" : page.replace(/\.html$/, "")
  item.append(link, " ", place, document.createElement("br"), text)
  return item
}

// The pages in whose texts all words occur, by the second index: it is loaded when the first finds little.
function inTexts(words) {
  if (typeof WORDS === "undefined") {
    if (!document.getElementById("search-words")) {
      const script = document.createElement("script")
      Object.assign(script, { id: "search-words", src: "search-words.js", onload: show })
      document.head.append(script)
    }
    return []
  }
  const [pages, steps] = WORDS
  const having = (word) => {
    const found = new Set()
    for (const key of Object.keys(steps).filter((key) => key.startsWith(word))) {
      let place = 0
      for (const step of steps[key].split(",")) found.add((place += Number(step)))
    }
    return found
  }
  const sets = words.flatMap((text) => text.split(/[^a-z_]+/).filter((word) => word.length > 3)).map(having)
  return sets.length ? [...sets[0]].filter((i) => sets.every((set) => set.has(i))).map((i) => pages[i]) : []
}

function show() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean)
  const found = words.length ? entries.map((e) => [score(e, words), e]).filter(([s]) => s > 0) : []
  found.sort((a, b) => b[0] - a[0])
  if (words.length && found.length < 8) {
    const known = new Set(found.map(([, [page]]) => page))
    const more = inTexts(words).filter((page) => !known.has(page))
    found.push(...more.map((page) => [0, [page, page.replace(/\.html$/, ""), "in its text", ""]]))
  }
  state.textContent = words.length ? `${found.length} places` : "Type a name, a word or a paper."
  results.replaceChildren(...found.slice(0, 50).map(([, entry]) => shown(entry)))
}

box.value = new URLSearchParams(location.search).get("q") ?? ""
box.addEventListener("input", show)
show()
