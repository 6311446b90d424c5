//! Stream capture, and the graphs that come of it.
//!
//! Allocations inside a capture become nodes of the graph: addresses are taken at once, memory when the graph is launched, and graphs of
//! one stream share it. Marks are external event records, whose events are exchanged before each launch, because a launch may be
//! queued while the events of the one before have still to be read.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::{
    self, CUevent_flags, CUgraph, CUgraphInstantiate_flags, CUgraphMem_attribute, CUgraphNode,
    CUgraphNodeType, CUstreamCaptureMode,
};
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaGraph, CudaStream};
use candle_core::{CudaDevice, Error, Result, bail};

use crate::base::Bytes;
use crate::ops::Mark;
use crate::ops::device::Memory;

/// `CU_EVENT_RECORD_EXTERNAL`: a node of the graph instead of an order between streams.
const EXTERNAL: u32 = 1;

thread_local! {
    /// The marks of what this thread records, if it does.
    static MARKS: RefCell<Option<Vec<CudaEvent>>> = const { RefCell::new(None) };
}

pub(super) fn is_recording() -> bool {
    MARKS.with_borrow(Option::is_some)
}

/// A graph that can be launched.
pub(super) struct Recorded {
    graph: CudaGraph,
    stream: Arc<CudaStream>,
    /// The nodes of the marks, in their order.
    marks: Vec<CUgraphNode>,
    /// What the nodes were recorded with, and record at the next launch unless it is exchanged.
    events: [Vec<Arc<CudaEvent>>; 2],
    in_flight: Vec<Launch>,
    nodes: usize,
}

/// A launch that the device may not have finished: its events must live so long, whoever else wants them.
struct Launch {
    _events: Vec<Arc<CudaEvent>>,
    end: CudaEvent,
}

impl std::fmt::Debug for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorded")
            .field("nodes", &self.nodes)
            .field("marks", &self.marks.len())
            .finish_non_exhaustive()
    }
}

#[expect(unsafe_code, reason = "raw handles")]
// SAFETY: graphs are not bound to a thread; they must not be used by two at a time, and nothing here takes `&self` but the count of nodes.
unsafe impl Send for Recorded {}

impl Drop for Recorded {
    fn drop(&mut self) {
        // A launch may still run; if waiting fails there is nobody to tell, and the device is lost.
        let _ = self.stream.synchronize();
    }
}

/// Ends the capture of a stream also when `work` panics.
struct Capture<'a> {
    stream: &'a Arc<CudaStream>,
    is_open: bool,
}

impl<'a> Capture<'a> {
    fn begin(stream: &'a Arc<CudaStream>) -> Result<Self> {
        if is_recording() {
            bail!("a graph is being recorded by this thread already");
        }
        stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .w()?;
        MARKS.set(Some(Vec::new()));
        Ok(Self {
            stream,
            is_open: true,
        })
    }

    /// The graph, and the events of its marks.
    fn end(&mut self) -> Result<(CudaGraph, Vec<CudaEvent>)> {
        self.is_open = false;
        let marks = MARKS.take().unwrap_or_default();
        // Tensors dropped after something had failed could not be freed. That is kept for the next call, which must end the capture.
        let dropped = self.stream.context().check_err();
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0)).w();
        let again = self.stream.context().check_err();
        let Some(graph) = graph? else {
            bail!("the recorded work is empty");
        };
        dropped.w()?;
        again.w()?;
        Ok((graph, marks))
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.is_open {
            let _already_failing = self.end();
        }
    }
}

pub(super) fn record<R, E: From<Error>>(
    device: &CudaDevice,
    work: impl FnOnce() -> std::result::Result<R, E>,
) -> std::result::Result<(Recorded, R), E> {
    let stream = device.cuda_stream();
    let mut capture = Capture::begin(&stream)?;
    let result = work();
    let ended = capture.end();
    let result = result?; // its error is the cause of any other
    let (graph, events) = ended?;
    let nodes = nodes(graph.cu_graph())?;
    if nodes.is_empty() {
        return Err(Error::Msg("the recorded work is empty".to_owned()).into());
    }
    check_memory(&nodes)?;
    check_copies(&nodes)?;
    let marks = events
        .iter()
        .map(|event| node_of(event, &nodes))
        .collect::<Result<_>>()?;
    let recorded = Recorded {
        graph,
        marks,
        events: [events.into_iter().map(Arc::new).collect(), Vec::new()],
        in_flight: Vec::new(),
        nodes: nodes.len(),
        stream: stream.clone(),
    };
    Ok((recorded, result))
}

pub(super) fn mark(device: &CudaDevice) -> Result<()> {
    let stream = device.cuda_stream();
    if !is_recording() {
        bail!("a mark of a graph outside of its recording");
    }
    let event = event(&stream)?;
    #[expect(unsafe_code, reason = "a driver call")]
    // SAFETY: event and stream are live and of one context; the graph keeps the event.
    unsafe { sys::cuEventRecordWithFlags(event.cu_event(), stream.cu_stream(), EXTERNAL).result() }
        .w()?;
    MARKS.with_borrow_mut(|marks| marks.get_or_insert_default().push(event));
    Ok(())
}

/// An event that has a time.
fn event(stream: &CudaStream) -> Result<CudaEvent> {
    let flags = Some(CUevent_flags::CU_EVENT_DEFAULT);
    stream.context().new_event(flags).w()
}

impl Recorded {
    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }

    pub(super) fn launch(&mut self) -> Result<Vec<Mark>> {
        let fresh = self
            .marks
            .iter()
            .map(|_| event(&self.stream).map(Arc::new))
            .collect::<Result<Vec<_>>>()?;
        for (node, event) in self.marks.iter().zip(&fresh) {
            #[expect(unsafe_code, reason = "a driver call")]
            // SAFETY: the node is one of the graph that this was made of, which lives as long; the event is kept below until it has
            // been recorded. Launches that are queued already keep theirs.
            unsafe {
                sys::cuGraphExecEventRecordNodeSetEvent(
                    self.graph.cu_graph_exec(),
                    *node,
                    event.cu_event(),
                )
                .result()
            }
            .w()?;
        }
        self.events[1].clone_from(&fresh);
        // An error of the device is told by the launch.
        self.in_flight
            .retain(|launch| !launch.end.try_is_complete().unwrap_or(true));
        self.graph.launch().w()?;
        let end = event(&self.stream)?;
        end.record(&self.stream).w()?;
        self.in_flight.push(Launch {
            _events: fresh.clone(),
            end,
        });
        Ok(fresh.into_iter().map(Mark::of_event).collect())
    }
}

/// All nodes of a graph.
fn nodes(graph: CUgraph) -> Result<Vec<CUgraphNode>> {
    let mut count = 0usize;
    #[expect(unsafe_code, reason = "a driver call")]
    // SAFETY: the graph is live; without room for nodes the call gives their number.
    unsafe { sys::cuGraphGetNodes(graph, ptr::null_mut(), &raw mut count).result() }.w()?;
    let mut nodes = vec![ptr::null_mut(); count];
    if count > 0 {
        #[expect(unsafe_code, reason = "a driver call")]
        // SAFETY: there is room for `count` nodes.
        unsafe { sys::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &raw mut count).result() }.w()?;
    }
    nodes.truncate(count);
    Ok(nodes)
}

fn type_of(node: CUgraphNode) -> Result<CUgraphNodeType> {
    let mut kind = CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
    #[expect(unsafe_code, reason = "a driver call")]
    // SAFETY: the node is one of a live graph.
    unsafe { sys::cuGraphNodeGetType(node, &raw mut kind).result() }.w()?;
    Ok(kind)
}

/// Fails unless all that a graph allocates is freed by it: otherwise it could be launched once only.
fn check_memory(nodes: &[CUgraphNode]) -> Result<()> {
    let (mut taken, mut freed) = (0, 0);
    for node in nodes {
        match type_of(*node)? {
            CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEM_ALLOC => taken += 1,
            CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEM_FREE => freed += 1,
            _ => {}
        }
    }
    if taken != freed {
        bail!("the recorded work makes {taken} tensors and drops {freed}");
    }
    Ok(())
}

/// Fails if a graph copies from or to the host, whose memory may be another's when the graph is launched.
fn check_copies(nodes: &[CUgraphNode]) -> Result<()> {
    for node in nodes {
        if type_of(*node)? != CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMCPY {
            continue;
        }
        let mut copy = std::mem::MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
        #[expect(unsafe_code, reason = "a driver call")]
        // SAFETY: the node is a live one that copies, and the structure is read when the call has filled it.
        let copy = unsafe {
            sys::cuGraphMemcpyNodeGetParams(*node, copy.as_mut_ptr())
                .result()
                .map(|()| copy.assume_init())
        }
        .w()?;
        let host = sys::CUmemorytype::CU_MEMORYTYPE_HOST;
        if copy.srcMemoryType == host || copy.dstMemoryType == host {
            bail!("a copy between host and device cannot be part of a graph");
        }
    }
    Ok(())
}

/// The node that records `event`.
fn node_of(event: &CudaEvent, nodes: &[CUgraphNode]) -> Result<CUgraphNode> {
    for node in nodes {
        if type_of(*node)? != CUgraphNodeType::CU_GRAPH_NODE_TYPE_EVENT_RECORD {
            continue;
        }
        let mut of = ptr::null_mut();
        #[expect(unsafe_code, reason = "a driver call")]
        // SAFETY: the node is a live one that records an event.
        unsafe { sys::cuGraphEventRecordNodeGetEvent(*node, &raw mut of).result() }.w()?;
        if of == event.cu_event() {
            return Ok(*node);
        }
    }
    bail!("a mark is not in the graph")
}

pub(super) fn trim(device: &CudaDevice) -> Result<()> {
    let stream = device.cuda_stream();
    stream.synchronize().w()?;
    #[expect(unsafe_code, reason = "a driver call")]
    // SAFETY: the handle is that of a live context's device.
    unsafe { sys::cuDeviceGraphMemTrim(stream.context().cu_device()).result() }.w()
}

pub(super) fn add_memory(device: &CudaDevice, pool: Memory) -> Result<Memory> {
    use CUgraphMem_attribute as Of;
    let graphs = |attribute| get(device, attribute);
    Ok(Memory {
        reserved: pool.reserved + graphs(Of::CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT)?,
        reserved_peak: pool.reserved_peak + graphs(Of::CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH)?,
        used: pool.used + graphs(Of::CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT)?,
        used_peak: pool.used_peak + graphs(Of::CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)?,
        ..pool
    })
}

pub(super) fn reset_peak(device: &CudaDevice) -> Result<()> {
    let mut zero = 0u64;
    for attribute in [
        CUgraphMem_attribute::CU_GRAPH_MEM_ATTR_USED_MEM_HIGH,
        CUgraphMem_attribute::CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH,
    ] {
        let value = (&raw mut zero).cast::<c_void>();
        #[expect(unsafe_code, reason = "a driver call")]
        // SAFETY: the attributes are 64 bits wide, which `value` points to; they can be set to 0 alone.
        unsafe { sys::cuDeviceSetGraphMemAttribute(place(device)?, attribute, value).result() }
            .w()?;
    }
    Ok(())
}

fn get(device: &CudaDevice, attribute: CUgraphMem_attribute) -> Result<Bytes> {
    let mut bytes = 0u64;
    let value = (&raw mut bytes).cast::<c_void>();
    #[expect(unsafe_code, reason = "a driver call")]
    // SAFETY: the attributes are 64 bits wide, which `value` points to.
    unsafe { sys::cuDeviceGetGraphMemAttribute(place(device)?, attribute, value).result() }.w()?;
    Ok(Bytes(bytes))
}

/// The driver's handle of a device, its context bound to this thread.
fn place(device: &CudaDevice) -> Result<sys::CUdevice> {
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    Ok(stream.context().cu_device())
}
