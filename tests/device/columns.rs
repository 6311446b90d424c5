//! Columns apart and together again, to the bit.

use candle_core::{DType, Device, Result};
use trestle::ops::columns;

use crate::{gpu, place, values};

#[test]
fn columns_split_and_join_to_the_bit() -> Result<()> {
    let gpu = gpu();
    for (rows, widths) in [(3, [1, 2, 3]), (65, [8, 16, 24]), (4096, [1024, 1024, 40])] {
        let x = values(&[rows, widths.iter().sum()], 5)?;
        for dtype in [DType::F32, DType::BF16] {
            let gx = place(&x, &gpu, dtype)?;
            let parts = columns::split(&gx, &widths)?;
            for (part, want) in parts.iter().zip(columns::split(&x, &widths)?) {
                let part = part.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
                assert_eq!(part.to_vec2::<f32>()?, want.to_vec2::<f32>()?);
            }
            let [a, b, c] = &parts;
            let joined = columns::join(&[a, b, c])?.to_dtype(DType::F32)?;
            assert_eq!(
                joined.to_device(&Device::Cpu)?.to_vec2::<f32>()?,
                x.to_vec2::<f32>()?
            );
        }
    }
    Ok(())
}
