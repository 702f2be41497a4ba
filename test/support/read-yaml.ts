import { parsers } from 'prettier/plugins/yaml';

/** As much of the syntax tree of Prettier's YAML parser as plain documents need. */
interface Node {
  readonly type: string;
  readonly value?: string;
  readonly children?: readonly (Node | null)[];
}

/** Parses a YAML document without anchors and tags into plain values. */
export async function readYaml(text: string): Promise<unknown> {
  const root = (await parsers.yaml.parse(text, {} as never)) as Node;
  const document = root.children?.[0];
  const body = document?.children?.find((one) => one?.type === 'documentBody');
  return valueOf(body?.children?.[0]);
}

function valueOf(node: Node | null | undefined): unknown {
  if (!node) return null;
  const children = node.children ?? [];
  switch (node.type) {
    case 'mapping':
    case 'flowMapping':
      return Object.fromEntries(
        children.map((item) => [String(valueOf(item?.children?.[0])), valueOf(item?.children?.[1])]),
      );
    case 'sequence':
    case 'flowSequence':
      return children.map((item) =>
        valueOf(
          item?.type === 'sequenceItem' || item?.type === 'flowSequenceItem' ? item.children?.[0] : item,
        ),
      );
    case 'mappingKey':
    case 'mappingValue':
    case 'flowSequenceItem':
      return valueOf(children[0]);
    case 'plain':
      return scalar(node.value ?? '');
    default:
      return node.value ?? '';
  }
}

function scalar(text: string): unknown {
  if (/^(?:null|~)?$/.test(text)) return null;
  if (text === 'true' || text === 'false') return text === 'true';
  return /^-?\d+(?:\.\d+)?$/.test(text) ? Number(text) : text;
}
