// Server-sent events out of a body, piece by piece (HTML standard, 9.2.6): the part that can be tested without a network.

export interface Told {
  event: string;
  data: string;
}

/** Text in, whole events out; what is not finished waits for the next piece. */
export function eventsIn(): (piece: string) => Told[] {
  let rest = "";
  return (piece) => {
    rest += piece;
    const half = rest.endsWith("\r") ? "\r" : ""; // perhaps the first half of CR LF
    const blocks = rest.slice(0, rest.length - half.length).replace(/\r\n?/g, "\n").split("\n\n");
    rest = (blocks.pop() ?? "") + half;
    return blocks.map(read).filter((told) => told.data !== "");
  };
}

function read(block: string): Told {
  const told: Told = { event: "message", data: "" };
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") told.event = value;
    if (field === "data") data.push(value);
  }
  told.data = data.join("\n");
  return told;
}
