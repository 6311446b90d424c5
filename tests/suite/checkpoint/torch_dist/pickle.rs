//! The pickle reader on honest, damaged and hostile input.

use trestle::checkpoint::torch_dist::pickle::{self, Compound, Problem, Value};

fn problem(input: &[u8]) -> (usize, Problem) {
    let error = pickle::parse(input).unwrap_err();
    (error.offset, error.problem)
}

#[test]
fn scalars_and_containers_of_each_protocol_are_read() {
    // pickle.dumps([None, True, 1, 300, -5, 2**40, 1.5, 'x', b'y', (1, 2), {'k': {3}}], protocol)
    let two = b"\x80\x02]q\x00(N\x88K\x01M,\x01J\xfb\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00X\x01\x00\x00\x00xq\x01K\x01K\x02\x86q\x02}q\x03X\x01\x00\x00\x00kq\x04K\x03se.";
    let four = b"\x80\x04\x95\x35\x00\x00\x00\x00\x00\x00\x00]\x94(N\x88K\x01M,\x01J\xfb\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00\x8c\x01x\x94K\x01K\x02\x86\x94}\x94\x8c\x01k\x94K\x03se.";
    for input in [two.as_slice(), four.as_slice()] {
        let pickle = pickle::parse(input).unwrap();
        let items = pickle.sequence(pickle.root()).unwrap();
        assert_eq!(items[0], Value::None);
        assert_eq!(items[1], Value::Bool(true));
        assert_eq!(items[2..6], [1, 300, -5, 1 << 40].map(Value::Int));
        assert_eq!(items[6], Value::Float(1.5));
        assert_eq!(items[7], Value::Str("x"));
        assert_eq!(pickle.sequence(items[8]).unwrap(), [1, 2].map(Value::Int));
        assert_eq!(pickle.get(items[9], "k"), Some(Value::Int(3)));
        assert_eq!(pickle.length(), input.len());
    }
}

#[test]
fn a_global_outside_the_list_is_refused_and_named_called_or_not() {
    let called = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.";
    let stacked = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.";
    let mentioned = b"\x80\x02}X\x01\x00\x00\x00acbuiltins\neval\ns.";
    for (input, offset, name) in [
        (called.as_slice(), 2, "os.system"),
        (stacked.as_slice(), 17, "posix.system"),
        (mentioned.as_slice(), 9, "builtins.eval"),
    ] {
        let name = name.to_owned();
        assert_eq!(problem(input), (offset, Problem::Global { name }));
    }
    let message = pickle::parse(called).unwrap_err().to_string();
    assert!(message.contains("byte 2") && message.contains("os.system"));
}

#[test]
fn a_call_of_a_known_class_is_kept_as_data() {
    let input = b"\x80\x02ctorch\nSize\nK\x02K\x03\x86\x85R.";
    let pickle = pickle::parse(input).unwrap();
    assert_eq!(
        pickle.sequence(pickle.root()).unwrap(),
        [2, 3].map(Value::Int)
    );

    let input = b"\x80\x02cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00tpK\x08sb.";
    let pickle = pickle::parse(input).unwrap();
    let (class, _, state) = pickle.object(pickle.root()).unwrap();
    assert_eq!(class.to_string(), "argparse.Namespace");
    assert_eq!(pickle.get(state.unwrap(), "tp"), Some(Value::Int(8)));
}

#[test]
fn every_truncation_is_told_with_its_byte() {
    let input =
        b"\x80\x04\x95\x1b\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x03key\x94ctorch\nfloat32\nu.";
    assert!(
        pickle::parse(input).is_err(),
        "the frame is longer than the rest"
    );
    let input = b"\x80\x04}\x94(\x8c\x03key\x94ctorch\nfloat32\n\x94u.";
    pickle::parse(input).unwrap();
    for cut in 0..input.len() {
        let (offset, problem) = problem(&input[..cut]);
        assert!(offset <= cut);
        let Problem::Truncated { length, missing } = problem else {
            panic!("{cut}: {problem}");
        };
        assert_eq!(length, cut);
        assert!(missing > 0);
    }
}

#[test]
fn numbers_that_the_input_claims_reserve_nothing() {
    let texts: [&[u8]; 6] = [
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x80\x04X\xff\xff\xff\xff.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x04\x96\x00\x00\x00\x00\x00\x00\x00\x10.",
        b"\x80\x04\x8b\xff\xff\xff\xff.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff.",
    ];
    for input in texts {
        assert!(matches!(problem(input), (2, Problem::Truncated { .. })));
    }
    let memo = b"\x80\x02Nr\xff\xff\xff\xff.";
    assert!(matches!(
        problem(memo),
        (
            3,
            Problem::Excess {
                what: "memo index",
                ..
            }
        )
    ));
    let unset = b"\x80\x02j\x05\x00\x00\x00.";
    assert_eq!(
        problem(unset),
        (
            2,
            Problem::Memo {
                index: 5,
                entries: 0
            }
        )
    );
}

#[test]
fn deep_and_circular_values_cost_no_recursion() {
    let mut deep = b"\x80\x02".to_vec();
    deep.extend(b"]".repeat(1_000_000));
    deep.extend(b"a".repeat(999_999));
    deep.push(b'.');
    let pickle = pickle::parse(&deep).unwrap();
    assert!(pickle.sequence(pickle.root()).unwrap().len() == 1);
    let shown = pickle::Shown {
        pickle: &pickle,
        value: pickle.root(),
        limit: 200,
    };
    assert_eq!(shown.to_string(), "[[[[[[[[...]]]]]]]]");
    drop(pickle);

    let circular = b"\x80\x02]q\x00h\x00a.";
    let pickle = pickle::parse(circular).unwrap();
    assert_eq!(pickle.sequence(pickle.root()).unwrap(), [pickle.root()]);

    // ten lists, each of which holds the one before ten times: 10^10 if it were printed in full
    let mut laughs = b"\x80\x02]q\x00".to_vec();
    for level in 0..10_u8 {
        laughs.extend(b"](");
        for _ in 0..10 {
            laughs.extend([b'h', level]);
        }
        laughs.extend([b'e', b'q', level + 1]);
    }
    laughs.push(b'.');
    let pickle = pickle::parse(&laughs).unwrap();
    let shown = pickle::Shown {
        pickle: &pickle,
        value: pickle.root(),
        limit: 100,
    };
    assert!(shown.to_string().len() < 400);

    let marks = b"(".repeat(5_000_000);
    let input = [b"\x80\x02".as_slice(), &marks].concat();
    assert!(matches!(problem(&input).1, Problem::Excess { .. }));
}

#[test]
fn calls_on_a_long_list_do_not_copy_it() {
    // one list of a thousand, then collections.OrderedDict(list) ten thousand times
    let mut input = b"\x80\x02](".to_vec();
    input.extend(b"N".repeat(1000));
    input.extend(b"e\x85q\x00ccollections\nOrderedDict\nq\x01");
    for _ in 0..10_000 {
        input.extend(b"h\x01h\x00R0");
    }
    input.push(b'.');
    let pickle = pickle::parse(&input).unwrap();
    assert!(matches!(pickle.root(), Value::Global(_)));
}

#[test]
fn opcodes_that_find_the_wrong_values_are_refused() {
    let cases: [(&[u8], &str); 12] = [
        (b"", "needed"),
        (b"I1\n.", "protocol 2 to 5"),
        (b"\x80\x01.", "protocol 1"),
        (b"\x80\x02.", "STOP"),
        (b"\x80\x02e.", "APPENDS"),
        (b"\x80\x02N(t\x86\x86.", "TUPLE2"),
        (b"\x80\x02](N(K\x01a.", "APPEND finds too few"),
        (b"\x80\x02NNa.", "APPEND needs a list, but finds None"),
        (b"\x80\x02NN\x85R.", "REDUCE needs a class"),
        (b"\x80\x02ctorch\nfloat32\n)R.", "REDUCE needs a class"),
        (b"\x80\x02]}b.", "BUILD needs an object, but finds a list"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "UTF-8"),
    ];
    for (input, part) in cases {
        let message = pickle::parse(input).unwrap_err().to_string();
        assert!(message.contains(part), "{message} lacks {part}");
    }
}

#[test]
fn what_the_writer_writes_the_reader_reads() {
    for protocol in [2, 4] {
        let mut writer = pickle::Writer::new(protocol);
        let numbers = [
            0,
            1,
            255,
            256,
            65535,
            65536,
            -1,
            i64::from(i32::MIN),
            1 << 31,
            -(1 << 31) - 1,
            i64::MAX,
            i64::MIN,
            255 << 32,
            -129 << 40,
        ];
        writer.empty_list();
        let list = writer.memoize();
        writer.mark();
        for n in numbers {
            writer.int(n);
        }
        writer.float(3.0);
        writer.text("a name");
        writer.text(&"n".repeat(300));
        writer.global("torch", "bfloat16");
        writer.ints([4, 5, 6, 7].into_iter());
        writer.get(list);
        writer.appends();
        let bytes = writer.finish();
        let pickle = pickle::parse(&bytes).unwrap();
        let items = pickle.sequence(pickle.root()).unwrap();
        assert_eq!(items[..numbers.len()], numbers.map(Value::Int));
        let [float, name, long, global, tuple, list] = items[numbers.len()..] else {
            panic!("{items:?}")
        };
        assert_eq!((float, name), (Value::Float(3.0), Value::Str("a name")));
        assert_eq!(long, Value::Str(&"n".repeat(300)));
        assert_eq!(pickle.kind(global), "torch.bfloat16");
        assert!(matches!(pickle.compound(tuple), Some(Compound::Tuple(t)) if t.len() == 4));
        assert_eq!(list, pickle.root());
    }
}
