use std::time::Instant;
use tch::{Kind, Tensor, Device};
fn cl(t: &Tensor) -> Tensor { t.permute([0,2,3,1]).contiguous().permute([0,3,1,2]) }
struct P { w: Vec<Tensor>, cl: bool }
impl P {
  fn conv(&mut self, o: i64, i: i64, k: i64, bias: bool) -> usize {
    let w = Tensor::randn([o,i,k,k],(Kind::Float,Device::Cpu)) * (2.0/((o*k*k) as f64)).sqrt();
    let w = if self.cl { cl(&w) } else { w };
    self.w.push(w.set_requires_grad(true));
    self.w.push(Tensor::zeros([o],(Kind::Float,Device::Cpu)).set_requires_grad(bias));
    self.w.push(Tensor::ones([o],(Kind::Float,Device::Cpu)).set_requires_grad(true));
    self.w.push(Tensor::zeros([o],(Kind::Float,Device::Cpu)).set_requires_grad(true));
    self.w.push(Tensor::zeros([o],(Kind::Float,Device::Cpu)));
    self.w.push(Tensor::ones([o],(Kind::Float,Device::Cpu)));
    self.w.len()-6
  }
  fn cb(&self, at: usize, x: &Tensor, s: i64, p: i64, bias: bool, train: bool) -> Tensor {
    let b = if bias { Some(&self.w[at+1]) } else { None };
    x.conv2d(&self.w[at], b, [s,s],[p,p],[1,1],1).batch_norm(Some(&self.w[at+2]),Some(&self.w[at+3]),Some(&self.w[at+4]),Some(&self.w[at+5]),train,0.1,1e-5,true)
  }
}
fn main() {
  let a: Vec<String> = std::env::args().collect();
  let (net, side, n, lay, pool) = (a[1].as_str(), a[2].parse::<i64>().unwrap(), a[3].parse::<i64>().unwrap(), a[4]=="cl", a[5]=="poolfirst");
  let mode = a.get(6).map(|s| s.as_str()).unwrap_or("train");
  tch::set_num_threads(2);
  let mut p = P { w: vec![], cl: lay };
  let x = Tensor::randn([n,3,side,side],(Kind::Float,Device::Cpu));
  let x = if lay { cl(&x) } else { x };
  let y = Tensor::zeros([n],(Kind::Int64,Device::Cpu));
  let fwd: Box<dyn Fn(&P,&Tensor)->Tensor>;
  if net == "cnn4" {
    let mut ch = 3; let mut at = vec![];
    for o in [32,64,128,256] { at.push(p.conv(o,ch,3,true)); ch = o; }
    let s = side>>4;
    let f1 = p.w.len();
    p.w.push((Tensor::randn([512,256*s*s],(Kind::Float,Device::Cpu))*0.01).set_requires_grad(true));
    p.w.push(Tensor::zeros([512],(Kind::Float,Device::Cpu)).set_requires_grad(true));
    p.w.push((Tensor::randn([3,512],(Kind::Float,Device::Cpu))*0.01).set_requires_grad(true));
    p.w.push(Tensor::zeros([3],(Kind::Float,Device::Cpu)).set_requires_grad(true));
    fwd = Box::new(move |p,x| {
      let mut f = x.shallow_clone();
      for &i in &at { f = p.cb(i,&f,1,1,true,true);
        f = if pool { f.max_pool2d([2,2],[2,2],[0,0],[1,1],false).relu_() } else { f.relu_().max_pool2d([2,2],[2,2],[0,0],[1,1],false) };
      }
      f.flatten(1,-1).linear(&p.w[f1],Some(&p.w[f1+1])).relu_().linear(&p.w[f1+2],Some(&p.w[f1+3]))
    });
  } else {
    let stem = p.conv(64,3,7,false);
    let mut blocks = vec![]; let mut ch = 64;
    for o in [64,128,256,512] { for b in 0..2 { let i = if b==0 {ch} else {o};
      let c1=p.conv(o,i,3,false); let c2=p.conv(o,o,3,false); let d = if i!=o {Some(p.conv(o,i,1,false))} else {None}; blocks.push((c1,c2,d)); } ch=o; }
    let fc=p.w.len();
    p.w.push((Tensor::randn([3,512],(Kind::Float,Device::Cpu))*0.01).set_requires_grad(true));
    p.w.push(Tensor::zeros([3],(Kind::Float,Device::Cpu)).set_requires_grad(true));
    fwd = Box::new(move |p,x| {
      let mut f = p.cb(stem,x,2,3,false,true);
      let mut f = if pool { f.max_pool2d([3,3],[2,2],[1,1],[1,1],false).relu_() } else { f.relu_().max_pool2d([3,3],[2,2],[1,1],[1,1],false) };
      for &(c1,c2,d) in &blocks { let s = if d.is_some() {2} else {1};
        let h = p.cb(c1,&f,s,1,false,true).relu_(); let mut o = p.cb(c2,&h,1,1,false,true);
        let sc = match d { Some(d)=>p.cb(d,&f,s,0,false,true), None=>f.shallow_clone() };
        f = (o.g_add_(&sc)).relu_();
      }
      f.adaptive_avg_pool2d([1,1]).flatten(1,-1).linear(&p.w[fc],Some(&p.w[fc+1]))
    });
  }
  let mut best = f64::MAX; let mut tf=0.0; let mut tb=0.0; let mut to=0.0;
  let mut bufs: Vec<Tensor> = vec![];
  let m = Tensor::from(0.9f32); let lr = Tensor::from(-0.0005f32);
  for it in 0..6 {
    let t = Instant::now();
    let loss = fwd(&p,&x).cross_entropy_loss::<&Tensor>(&y,None,tch::Reduction::Mean,-100,0.0);
    let t1=t.elapsed().as_secs_f64();
    let tr: Vec<&Tensor> = p.w.iter().filter(|t| t.requires_grad()).collect();
    let g = Tensor::run_backward(&[&loss], &tr, false, false);
    let t2=t.elapsed().as_secs_f64();
    let mism: Vec<_> = g.iter().zip(&tr).filter(|(g,t)| g.stride()!=t.stride()).map(|(g,t)| (g.size(),g.stride(),t.stride())).collect();
    if it==0 { println!("layout mismatches {} {:?}", mism.len(), mism.first()); }
    tch::no_grad(|| {
      let mut nb = vec![];
      for (i,mut g) in g.into_iter().enumerate() {
        if mode=="sgdold" {
          let mut b = if it==0 { g.copy() } else { bufs[i].shallow_clone() };
          if it>0 { let _ = b.g_mul_scalar_(0.9).g_add_(&g); }
          let _ = tr[i].shallow_clone().g_sub_(&b.g_mul_scalar(0.0005)); nb.push(b);
        } else {
          if it>0 { let _ = g.addcmul_(&bufs[i], &m); }
          let _ = tr[i].shallow_clone().addcmul_(&g, &lr); nb.push(g);
        }
      }
      bufs = nb;
    });
    let t3=t.elapsed().as_secs_f64();
    if it>0 && t3<best { best=t3; tf=t1; tb=t2-t1; to=t3-t2; }
  }
  println!("{net} {side} n={n} cl={lay} poolfirst={pool} {mode}: {:.1} img/s  fwd {:.0}ms bwd {:.0}ms opt {:.0}ms", n as f64/best, tf*1e3,tb*1e3,to*1e3);
}
