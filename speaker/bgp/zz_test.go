package bgp
import ("testing";"strings";"time";"runtime";"fmt")
func TestZZ(t *testing.T){
 key := strings.Repeat("a.",30)
 var b strings.Builder
 for i:=0; b.Len()<255<<10; i++ { fmt.Fprintf(&b,"%sk%d = 1\n",key,i) }
 var c strings.Builder
 c.WriteString("[[policy-definitions]]\nname=\"p\"\n")
 for i:=0; c.Len()<255<<10; i++ { c.WriteString("[[policy-definitions.statements]]\n") }
 var d strings.Builder
 for i:=0; d.Len()<255<<10; i++ { fmt.Fprintf(&d,"k%d=1\n",i) }
 var e strings.Builder
 e.WriteString("[[defined-sets.bgp-defined-sets.community-sets]]\ncommunity-set-name=\"a\"\ncommunity-list=[")
 for e.Len()<255<<10 { e.WriteString(`"((a{100}){10})",`+"\n") }
 e.WriteString("]")
 for n,x := range []string{b.String(),c.String(),d.String(),e.String()} {
  var m0,m1 runtime.MemStats; runtime.ReadMemStats(&m0)
  s:=time.Now(); _,err:=ParsePolicy(x); runtime.ReadMemStats(&m1)
  es:=fmt.Sprint(err); if len(es)>200 {es=fmt.Sprint(len(es), es[:200])}
  t.Log(n, time.Since(s), (m1.TotalAlloc-m0.TotalAlloc)>>20, "MiB", es)
 }
}
