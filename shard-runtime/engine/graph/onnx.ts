/**
 * ONNX graphs as bytes. The descriptor is the part of onnx.proto that our graphs need; field numbers are those of the
 * specification (github.com/onnx/onnx, onnx/onnx.proto). The same graph always gives the same bytes: fields are written
 * in order of their numbers and nothing is taken from a clock or a map's chance order.
 */
import { createRequire } from "node:module";
import type { Root } from "protobufjs";

const field = (id: number, type: string, rule?: "repeated") => (rule === undefined ? { id, type } : { id, type, rule });

const SCHEMA = {
  nested: {
    ModelProto: {
      fields: {
        irVersion: field(1, "int64"),
        producerName: field(2, "string"),
        graph: field(7, "GraphProto"),
        opsetImport: field(8, "OperatorSetIdProto", "repeated"),
      },
    },
    OperatorSetIdProto: { fields: { domain: field(1, "string"), version: field(2, "int64") } },
    GraphProto: {
      fields: {
        node: field(1, "NodeProto", "repeated"),
        name: field(2, "string"),
        initializer: field(5, "TensorProto", "repeated"),
        input: field(11, "ValueInfoProto", "repeated"),
        output: field(12, "ValueInfoProto", "repeated"),
      },
    },
    NodeProto: {
      fields: {
        input: field(1, "string", "repeated"),
        output: field(2, "string", "repeated"),
        name: field(3, "string"),
        opType: field(4, "string"),
        attribute: field(5, "AttributeProto", "repeated"),
        domain: field(7, "string"),
      },
    },
    AttributeProto: {
      fields: { name: field(1, "string"), f: field(2, "float"), i: field(3, "int64"), type: field(20, "int32") },
    },
    TensorProto: {
      fields: {
        dims: field(1, "int64", "repeated"),
        dataType: field(2, "int32"),
        name: field(8, "string"),
        rawData: field(9, "bytes"),
        externalData: field(13, "StringStringEntryProto", "repeated"),
        dataLocation: field(14, "int32"),
      },
    },
    StringStringEntryProto: { fields: { key: field(1, "string"), value: field(2, "string") } },
    ValueInfoProto: { fields: { name: field(1, "string"), type: field(2, "TypeProto") } },
    TypeProto: { fields: { tensorType: field(1, "TensorTypeProto") } },
    TensorTypeProto: { fields: { elemType: field(1, "int32"), shape: field(2, "TensorShapeProto") } },
    TensorShapeProto: { fields: { dim: field(1, "DimensionProto", "repeated") } },
    DimensionProto: { fields: { dimValue: field(1, "int64"), dimParam: field(2, "string") } },
  },
};

let root: Root | undefined;

/** A rank that finds its shard packed writes no graph: it starts without these forty modules. */
function schema(): Root {
  const protobuf: typeof import("protobufjs") = createRequire(import.meta.url)("protobufjs");
  return (root ??= protobuf.Root.fromJSON(SCHEMA));
}

/** TensorProto.DataType */
export const FLOAT = 1;
export const UINT8 = 2;
export const INT8 = 3;
export const INT32 = 6;
const INT64 = 7;
export const FLOAT16 = 10;

const ATTRIBUTE_FLOAT = 1;
const ATTRIBUTE_INT = 2;
const LOCATION_EXTERNAL = 1;
const IR_VERSION = 10;
const OPSET_VERSION = 21;
const CONTRIB = "com.microsoft";
const OWN = "tessellate";

/** A weight that lies in a file beside the graph. */
export type StoredTensor = {
  readonly name: string;
  readonly dataType: number;
  readonly dims: readonly number[];
  readonly file: string;
  readonly offset: number; // bytes
  readonly length: number; // bytes
};

/** A number's attribute is an INT; wrap one that the operator wants as FLOAT, for 1 looks the same either way. */
export type Attributes = Readonly<Record<string, number | { readonly float: number }>>;

/** Collects one graph's nodes in the order of execution. Names of values are the caller's. */
export class GraphBuilder {
  readonly #name: string;
  readonly #nodes: object[] = [];
  readonly #initializers = new Map<string, object>();
  readonly #inputs: object[] = [];
  readonly #outputs: object[] = [];
  #hasOwn = false;

  constructor(name: string) {
    this.#name = name;
  }

  /** Dimensions given as words are free; the same word is the same size. */
  input(name: string, dims: readonly (number | string)[], dataType = FLOAT): string {
    this.#inputs.push(valueInfo(name, dataType, dims));
    return name;
  }

  output(name: string, dims: readonly (number | string)[], dataType = FLOAT): void {
    this.#outputs.push(valueInfo(name, dataType, dims));
  }

  stored(tensor: StoredTensor): string {
    this.#initializers.set(tensor.name, {
      dims: tensor.dims,
      dataType: tensor.dataType,
      name: tensor.name,
      externalData: [
        { key: "location", value: tensor.file },
        { key: "offset", value: String(tensor.offset) },
        { key: "length", value: String(tensor.length) },
      ],
      dataLocation: LOCATION_EXTERNAL,
    });
    return tensor.name;
  }

  /**
   * A weight that could be replaced from outside: one that is declared as an input too. So it is nothing that the engine
   * may compute with when it loads the graph, and keep the result of.
   */
  replaceable(tensor: StoredTensor): string {
    if (!this.#initializers.has(tensor.name)) this.input(tensor.name, tensor.dims, tensor.dataType);
    return this.stored(tensor);
  }

  /** A small constant inside the graph. The same name is the same constant. */
  constant(name: string, dims: readonly number[], values: Float32Array | BigInt64Array): string {
    this.#initializers.set(name, {
      dims,
      dataType: values instanceof Float32Array ? FLOAT : INT64,
      name,
      rawData: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
    });
    return name;
  }

  /** An operator of ONNX itself. An empty output name is an output that nobody reads. Returns the first output. */
  node(operator: string, inputs: readonly string[], outputs: readonly string[], attributes: Attributes = {}): string {
    return this.#add("", operator, inputs, outputs, attributes);
  }

  /** An operator of ONNX Runtime's com.microsoft domain. */
  contrib(
    operator: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: Attributes = {},
  ): string {
    return this.#add(CONTRIB, operator, inputs, outputs, attributes);
  }

  /** An operator of our own (native/): the graph loads only where our library is registered. */
  own(operator: string, inputs: readonly string[], outputs: readonly string[], attributes: Attributes = {}): string {
    this.#hasOwn = true;
    return this.#add(OWN, operator, inputs, outputs, attributes);
  }

  #add(
    domain: string,
    opType: string,
    input: readonly string[],
    output: readonly string[],
    attributes: Attributes,
  ): string {
    const attribute = Object.entries(attributes).map(([name, value]) =>
      typeof value === "number"
        ? { name, i: value, type: ATTRIBUTE_INT }
        : { name, f: value.float, type: ATTRIBUTE_FLOAT },
    );
    const first = output[0] ?? "";
    this.#nodes.push({ input, output, name: first, opType, attribute, domain });
    return first;
  }

  encode(): Uint8Array {
    const type = schema().lookupType("ModelProto");
    const graph = {
      node: this.#nodes,
      name: this.#name,
      initializer: [...this.#initializers.values()],
      input: this.#inputs,
      output: this.#outputs,
    };
    const opsetImport = [
      { domain: "", version: OPSET_VERSION },
      { domain: CONTRIB, version: 1 },
      ...(this.#hasOwn ? [{ domain: OWN, version: 1 }] : []),
    ];
    const model = { irVersion: IR_VERSION, producerName: "tessellate", graph, opsetImport };
    return type.encode(type.fromObject(model)).finish();
  }
}

const valueInfo = (name: string, elemType: number, dims: readonly (number | string)[]) => ({
  name,
  type: {
    tensorType: {
      elemType,
      shape: { dim: dims.map((dim) => (typeof dim === "number" ? { dimValue: dim } : { dimParam: dim })) },
    },
  },
});
