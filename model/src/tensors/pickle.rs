//! Reads a pickle as data: a machine that knows the format's opcodes and runs nothing.
//!
//! Python's own reader imports what a pickle names and calls it; that is how such a file takes over a machine. Here a name is only a
//! name and a call is only a note of what would have been called with what. Torch writes protocol 2 (TorchScript too), others up
//! to 4; text opcodes of protocols 0 and 1 are refused.
//!
//! Everything lives in one arena and points at it by number, so that neither deep nesting nor a cycle can overflow the stack when it is
//! dropped, and no opcode makes more than one value: the size of the pickle bounds what is allocated.
//! Opcodes: Python's `Lib/pickletools.py`.

use std::collections::HashMap;

/// Longest pickle and most values accepted. The largest published CLIP needs a hundredth of either.
const MAX_SIZE: usize = 16 << 20;
const MAX_VALUES: usize = 1 << 20;

/// A value's number in the arena.
pub(super) type Id = usize;

/// What a pickle may hold, as far as weights need it.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// None, floats, bytes and integers beyond 64 bits.
    Opaque,
    Bool,
    Int(i64),
    Str(&'a str),
    Tuple(Vec<Id>),
    /// Also a set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A name that Python would import.
    Global {
        module: &'a str,
        name: &'a str,
    },
    /// A reference out of the pickle: for torch, a storage.
    Persistent(Id),
    /// What Python would make by calling `class` with `args`, then setting `items` and `state`.
    Object {
        class: Id,
        args: Id,
        items: Vec<(Id, Id)>,
        state: Option<Id>,
    },
}

/// A pickle's values, and the one that it stands for.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    pub(super) root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads `input` up to its STOP opcode.
    pub(super) fn read(input: &'a [u8]) -> Result<Self, String> {
        if input.len() > MAX_SIZE {
            return Err(format!(
                "its pickle has {} bytes; wanted at most {MAX_SIZE}",
                input.len()
            ));
        }
        let mut machine = Machine::new(input);
        let root = machine
            .run()
            .map_err(|e| format!("its pickle is damaged at byte {}: {e}", machine.at))?;
        Ok(Self {
            values: machine.values,
            root,
        })
    }

    /// The value with that number.
    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id).unwrap_or(&Value::Opaque)
    }

    /// Module and name of a global.
    pub(super) fn global(&self, id: Id) -> Option<(&'a str, &'a str)> {
        match self.get(id) {
            Value::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }

    /// Items of a tuple.
    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A string.
    pub(super) fn str(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// An integer that is not negative.
    pub(super) fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
}

type Step<T = ()> = Result<T, String>;

impl<'a> Machine<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    fn run(&mut self) -> Step<Id> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),
                opcode => self.step(opcode)?,
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Step {
        match opcode {
            0x80 => self.protocol(),
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            b'q' | b'r' | 0x94 => self.remember(opcode),
            b'h' | b'j' => self.recall(opcode),
            b')' | b'}' | b']' | b't' | b'l' | b'd' | 0x85..=0x87 | 0x8f | 0x91 => {
                self.container(opcode)
            }
            b'a' | b'e' | 0x90 | b's' | b'u' => self.fill(opcode),
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.object(opcode),
            _ => self.literal(opcode),
        }
    }

    fn protocol(&mut self) -> Step {
        match self.byte()? {
            2..=4 => Ok(()),
            found => Err(format!("wanted protocol 2 to 4, found {found}")),
        }
    }

    fn literal(&mut self, opcode: u8) -> Step {
        let value = match opcode {
            b'N' => Value::Opaque,
            0x88 | 0x89 => Value::Bool,
            b'K' => Value::Int(i64::from(self.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            0x8a => {
                let size = self.byte()?.into();
                self.long(size)?
            }
            0x8b => {
                let size = self.length4()?;
                self.long(size)?
            }
            b'G' => {
                self.take(8)?;
                Value::Opaque
            }
            b'X' => {
                let size = self.length4()?;
                self.text(size)?
            }
            0x8c | b'U' => {
                let size = self.byte()?.into();
                self.text(size)?
            }
            0x8d => {
                let size = self.length8()?;
                self.text(size)?
            }
            b'T' | b'B' => {
                let size = self.length4()?;
                self.bytes(size)?
            }
            b'C' => {
                let size = self.byte()?.into();
                self.bytes(size)?
            }
            0x8e => {
                let size = self.length8()?;
                self.bytes(size)?
            }
            _ => {
                return Err(format!(
                    "wanted an opcode of protocol 2 to 4, found {opcode:#04x}"
                ));
            }
        };
        self.push(value)
    }

    fn container(&mut self, opcode: u8) -> Step {
        let value = match opcode {
            b')' => Value::Tuple(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            b']' | 0x8f => Value::List(Vec::new()),
            b't' => Value::Tuple(self.pop_mark()?),
            b'l' | 0x91 => Value::List(self.pop_mark()?),
            b'd' => Value::Dict(pairs(&self.pop_mark()?)?),
            _ => Value::Tuple(self.pop_many(usize::from(opcode - 0x84))?),
        };
        self.push(value)
    }

    fn fill(&mut self, opcode: u8) -> Step {
        let filling = match opcode {
            b'a' => self.pop_many(1)?,
            b's' => self.pop_many(2)?,
            _ => self.pop_mark()?,
        };
        let target = self.top()?;
        let by_key = matches!(opcode, b's' | b'u');
        match &mut self.values[target] {
            Value::List(items) if !by_key => items.extend(filling),
            Value::Dict(items) | Value::Object { items, .. } if by_key => {
                items.extend(pairs(&filling)?);
            }
            // A list-like object: nothing of weights is kept in one.
            Value::Object { .. } => {}
            _ => return Err("items for something that takes none".into()),
        }
        Ok(())
    }

    fn object(&mut self, opcode: u8) -> Step {
        match opcode {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global { module, name })
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Str(module), Value::Str(name)) =
                    (&self.values[module], &self.values[name])
                else {
                    return Err("a global whose name is not text".into());
                };
                self.push(Value::Global { module, name })
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                if let Value::Object { state: slot, .. } = &mut self.values[target] {
                    *slot = Some(state);
                }
                Ok(())
            }
            _ => {
                if opcode == 0x92 {
                    self.pop()?;
                }
                let (args, class) = (self.pop()?, self.pop()?);
                self.push(Value::Object {
                    class,
                    args,
                    items: Vec::new(),
                    state: None,
                })
            }
        }
    }

    fn remember(&mut self, opcode: u8) -> Step {
        let slot = match opcode {
            b'q' => self.byte()?.into(),
            b'r' => self.length4()?,
            _ => self.memo.len(),
        };
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Step {
        let slot = if opcode == b'h' {
            self.byte()?.into()
        } else {
            self.length4()?
        };
        let id = self
            .memo
            .get(&slot)
            .ok_or_else(|| format!("memo slot {slot} is empty"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Step {
        if self.values.len() >= MAX_VALUES {
            return Err(format!("it makes more than {MAX_VALUES} values"));
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Step<Id> {
        match self.stack.last() {
            Some(id) if self.stack.len() > self.floor() => Ok(*id),
            _ => Err("the stack is empty".into()),
        }
    }

    fn pop(&mut self) -> Step<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_many(&mut self, n: usize) -> Step<Vec<Id>> {
        match self.stack.len().checked_sub(n) {
            Some(from) if from >= self.floor() => Ok(self.cut(from)),
            _ => Err("the stack is empty".into()),
        }
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let from = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.cut(from))
    }

    fn cut(&mut self, from: usize) -> Vec<Id> {
        // Not split_off: it may hand over the whole stack's spare room, to every tuple again.
        self.stack.drain(from..).collect()
    }

    fn take(&mut self, n: usize) -> Step<&'a [u8]> {
        let stop = self.at.checked_add(n).ok_or("it ends too early")?;
        let bytes = self.input.get(self.at..stop).ok_or("it ends too early")?;
        self.at = stop;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "it ends too early".into())
    }

    fn byte(&mut self) -> Step<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn length4(&mut self) -> Step<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn length8(&mut self) -> Step<usize> {
        let size = u64::from_le_bytes(self.array()?);
        usize::try_from(size).map_err(|_| "it ends too early".into())
    }

    fn long(&mut self, size: usize) -> Step<Value<'a>> {
        let bytes = self.take(size)?;
        if size > 8 {
            return Ok(Value::Opaque);
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = if negative { [0xff; 8] } else { [0; 8] };
        wide[..size].copy_from_slice(bytes);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }

    fn text(&mut self, size: usize) -> Step<Value<'a>> {
        let bytes = self.take(size)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::Str(text)),
            Err(_) => Ok(Value::Opaque),
        }
    }

    fn bytes(&mut self, size: usize) -> Step<Value<'a>> {
        self.take(size)?;
        Ok(Value::Opaque)
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.input[self.at..];
        let end = rest
            .iter()
            .position(|b| *b == b'\n')
            .ok_or("it ends too early")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "a global whose name is not text".into())
    }
}

fn pairs(flat: &[Id]) -> Step<Vec<(Id, Id)>> {
    let (pairs, rest) = flat.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a key without a value".into());
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_call_is_noted_and_not_made() {
        let pickle = Pickle::read(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.").unwrap();
        let Value::Object { class, args, .. } = pickle.get(pickle.root) else {
            panic!("wanted an object, found {:?}", pickle.get(pickle.root));
        };
        assert_eq!(pickle.global(*class), Some(("os", "system")));
        assert_eq!(pickle.str(pickle.tuple(*args).unwrap()[0]), Some("true"));
    }

    #[test]
    fn integers_of_every_width() {
        for (bytes, wanted) in [
            (&b"K\xff."[..], 255),
            (b"M\x00\x80.", 32768),
            (b"J\xff\xff\xff\xff.", -1),
            (b"\x8a\x00.", 0),
            (b"\x8a\x02\x00\x80.", -32768),
            (b"\x8b\x05\x00\x00\x00\x00\x00\x00\x00\x01.", 1 << 32),
        ] {
            let pickle = Pickle::read(bytes).unwrap();
            assert!(matches!(pickle.get(pickle.root), Value::Int(n) if *n == wanted));
        }
    }

    #[test]
    fn damaged_pickles_are_refused() {
        for bytes in [
            &b""[..],
            b".",
            b"\x80\x05N.",
            b"\x80\x02N",
            b"h\x00.",
            b"(0.",
            b"t.",
            b"(K\x01u.",
            b"}(K\x01u.",
            b"K\x01K\x02a.",
            b"\x85.",
            b"X\xff\xff\xff\xffa.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.",
            b"cos\nsystem",
            b"I1\n.",
        ] {
            let error = Pickle::read(bytes).unwrap_err();
            assert!(error.contains("pickle"), "{error}");
        }
    }
}
