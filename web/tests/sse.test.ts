import { expect, test } from "vitest";
import { EventReader, type ServerEvent } from "../src/sse";

const STREAM = ': hello\n\nid: 1\nevent: bar\ndata: {"bar":1}\n\nid: 2\r\nevent: note\r\ndata: {"onset":\r\ndata: 0}\r\n\r\nretry: 5\n\nid: 3\nevent: done\ndata: {}\n\n';

const EXPECTED: ServerEvent[] = [
  { id: "1", event: "bar", data: '{"bar":1}' },
  { id: "2", event: "note", data: '{"onset":\n0}' },
  { id: "3", event: "done", data: "{}" },
];

test("a stream reads the same wherever its chunks are cut", () => {
  for (let cut = 0; cut <= STREAM.length; cut++) {
    const reader = new EventReader();
    expect([...reader.push(STREAM.slice(0, cut)), ...reader.push(STREAM.slice(cut))]).toEqual(EXPECTED);
  }
});

test("an event that is not finished is not given out", () => {
  expect(new EventReader().push("id: 1\ndata: {}\n")).toEqual([]);
});
