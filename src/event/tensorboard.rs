//! Scalars as TensorBoard event files: the bytes, no file.
//!
//! An event file is a sequence of `TFRecord` frames: length (u64, little endian), masked CRC-32C of the length, payload, masked CRC-32C of
//! the payload. A payload is a protobuf `Event`: `wall_time` (1, double), `step` (2, int64), and `file_version` (3, string) in the first
//! frame or `summary` (5) afterwards. A summary holds values (1), each with `tag` (1) and `simple_value` (2, float) or, in files of newer writers,
//! a `tensor` (8).

use thiserror::Error;

/// What the first frame of a file says.
const FILE_VERSION: &str = "brain.Event:2";

/// One scalar read from an event file.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// Seconds since the Unix epoch.
    pub wall_time: f64,
    /// Training step.
    pub step: i64,
    /// The series' name.
    pub tag: String,
    /// The value.
    pub value: f32,
}

/// Why bytes are not an event file.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A frame's checksum differs from its bytes.
    #[error(
        "byte {offset}: checksum {stored:#010x} does not match the bytes, which give {computed:#010x}"
    )]
    Checksum {
        /// Where the checksummed bytes begin.
        offset: usize,
        /// What the file says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A payload is not the protobuf message it should be.
    #[error("byte {offset}: not a TensorBoard event")]
    Malformed {
        /// Where the payload begins.
        offset: usize,
    },
}

/// The first frame of a file.
pub fn encode_file_version(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    bytes(&mut event, 3, FILE_VERSION.as_bytes());
    encode_frame(&event)
}

/// A frame with the scalars of one step.
pub fn encode_scalars(wall_time: f64, step: i64, scalars: &[(&str, f32)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for &(tag, value) in scalars {
        let mut item = Vec::new();
        bytes(&mut item, 1, tag.as_bytes());
        key(&mut item, 2, 5);
        item.extend(value.to_le_bytes());
        bytes(&mut summary, 1, &item);
    }
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    key(&mut event, 2, 0);
    varint(&mut event, step as u64);
    bytes(&mut event, 5, &summary);
    encode_frame(&event)
}

/// A frame that says that a process took up the run before `step`, so that readers drop what earlier files say from `step` on.
pub fn encode_session_start(wall_time: f64, step: i64) -> Vec<u8> {
    // `session_log` (7) holds `status` (1); 1 is START.
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    key(&mut event, 2, 0);
    varint(&mut event, step as u64);
    bytes(&mut event, 7, &[1 << 3, 1]);
    encode_frame(&event)
}

/// The scalars of all complete frames at the start of `file`, and how many bytes those frames take.
///
/// A torn last frame is left over, as with a file that is still written. Values that are not scalars are skipped.
pub fn decode(file: &[u8]) -> Result<(Vec<Scalar>, usize), DecodeError> {
    let mut scalars = Vec::new();
    let mut offset = 0;
    while let Some(head) = file.get(offset..offset + 12) {
        let (length_bytes, length_crc) = head.split_at(8);
        check(length_bytes, length_crc, offset)?;
        let length = u64::from_le_bytes(length_bytes.try_into().expect("eight bytes"));
        let start = offset + 12;
        let Some(end) = usize::try_from(length)
            .ok()
            .and_then(|l| start.checked_add(l))
        else {
            break;
        };
        let Some(crc) = end.checked_add(4).and_then(|stop| file.get(end..stop)) else {
            break;
        };
        let payload = &file[start..end];
        check(payload, crc, start)?;
        read_event(payload, &mut scalars).ok_or(DecodeError::Malformed { offset: start })?;
        offset = end + 4;
    }
    Ok((scalars, offset))
}

/// Bytes that the frame at the start of `file` takes in all, by its head; `None` for less than a head or a broken one.
pub fn frame_bytes(file: &[u8]) -> Option<u64> {
    let (length, crc) = file.get(..12)?.split_at(8);
    check(length, crc, 0).ok()?;
    u64::from_le_bytes(length.try_into().ok()?).checked_add(16)
}

fn check(data: &[u8], crc: &[u8], offset: usize) -> Result<(), DecodeError> {
    let stored = u32::from_le_bytes(crc.try_into().expect("four bytes"));
    let computed = masked_crc(data);
    if stored == computed {
        Ok(())
    } else {
        Err(DecodeError::Checksum {
            offset,
            stored,
            computed,
        })
    }
}

/// CRC-32C rotated right by 15 bits plus a constant, so that the checksum of bytes holding checksums stays meaningful.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// A frame around a payload, whatever it is.
pub fn encode_frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(payload.len() + 16);
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(payload);
    out.extend(masked_crc(payload).to_le_bytes());
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// A protobuf field's value.
enum Wire<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// Takes the next field off `message`; `None` if it is not protobuf.
fn next_field<'a>(message: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let key = take_varint(message)?;
    let wire = match key & 7 {
        0 => Wire::Varint(take_varint(message)?),
        1 => Wire::Fixed64(take(message, 8)?.try_into().ok()?),
        2 => {
            let length = usize::try_from(take_varint(message)?).ok()?;
            Wire::Bytes(take(message, length)?)
        }
        5 => Wire::Fixed32(take(message, 4)?.try_into().ok()?),
        _ => return None,
    };
    Some((key >> 3, wire))
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = message.split_at_checked(length)?;
    *message = tail;
    Some(head)
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn read_event(mut message: &[u8], scalars: &mut Vec<Scalar>) -> Option<()> {
    let (mut wall_time, mut step, mut summary) = (0.0, 0, None);
    while !message.is_empty() {
        match next_field(&mut message)? {
            (1, Wire::Fixed64(value)) => wall_time = f64::from_le_bytes(value),
            (2, Wire::Varint(value)) => step = value as i64,
            (5, Wire::Bytes(value)) => summary = Some(value),
            _ => {}
        }
    }
    let mut summary = summary.unwrap_or_default();
    while !summary.is_empty() {
        if let (1, Wire::Bytes(value)) = next_field(&mut summary)?
            && let (tag, Some(value)) = read_value(value)?
        {
            scalars.push(Scalar {
                wall_time,
                step,
                tag,
                value,
            });
        }
    }
    Some(())
}

fn read_value(mut message: &[u8]) -> Option<(String, Option<f32>)> {
    let (mut tag, mut scalar) = (String::new(), None);
    while !message.is_empty() {
        match next_field(&mut message)? {
            (1, Wire::Bytes(value)) => tag = String::from_utf8(value.to_vec()).ok()?,
            (2, Wire::Fixed32(value)) => scalar = Some(f32::from_le_bytes(value)),
            (8, Wire::Bytes(value)) => read_tensor(value, &mut scalar)?,
            _ => {}
        }
    }
    Some((tag, scalar))
}

/// Finds the one scalar of a `TensorProto`: `dtype` (1) float or double, `tensor_content` (4), `float_val` (5) or `double_val` (6).
fn read_tensor(mut message: &[u8], scalar: &mut Option<f32>) -> Option<()> {
    let mut dtype = 0;
    while !message.is_empty() {
        match next_field(&mut message)? {
            (1, Wire::Varint(value)) => dtype = value,
            (4 | 5, Wire::Bytes(value)) if dtype == 1 && value.len() == 4 => {
                *scalar = Some(f32::from_le_bytes(value.try_into().ok()?));
            }
            (4 | 6, Wire::Bytes(value)) if dtype == 2 && value.len() == 8 => {
                *scalar = Some(f64::from_le_bytes(value.try_into().ok()?) as f32);
            }
            (5, Wire::Fixed32(value)) => *scalar = Some(f32::from_le_bytes(value)),
            (6, Wire::Fixed64(value)) => *scalar = Some(f64::from_le_bytes(value) as f32),
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_is_the_one_that_the_format_prescribes() {
        // wall_time 0: 24 payload bytes; checksums by the definition of CRC-32C, whose check value is asserted first.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let file = encode_file_version(0.0);
        assert_eq!(&file[..8], &24u64.to_le_bytes());
        assert_eq!(&file[12..21], &[9, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&file[21..36], b"\x1a\x0dbrain.Event:2");
        assert_eq!(decode(&file), Ok((vec![], file.len())));
    }

    #[test]
    fn a_scalar_in_a_tensor_is_read() {
        let mut tensor = Vec::new();
        key(&mut tensor, 1, 0);
        varint(&mut tensor, 1);
        bytes(&mut tensor, 5, &2.5f32.to_le_bytes());
        let mut value = Vec::new();
        bytes(&mut value, 1, b"loss");
        bytes(&mut value, 8, &tensor);
        let mut summary = Vec::new();
        bytes(&mut summary, 1, &value);
        let mut event = Vec::new();
        double(&mut event, 1, 1.0);
        key(&mut event, 2, 0);
        varint(&mut event, 3);
        bytes(&mut event, 5, &summary);
        let (scalars, _) = decode(&encode_frame(&event)).expect("well-formed");
        assert_eq!(scalars.len(), 1);
        assert_eq!((scalars[0].step, scalars[0].value), (3, 2.5));
    }
}
